"""Locks that a fork leaves usable.

A child has one thread: a lock that another thread held at that moment would stay
held for ever, over a state changed by half. So the forking thread takes every lock
first, as `logging` does. The sections under these locks are a few steps long, call
no user code and take no other lock but an inner one, which comes last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator

from resilient._runtime.registry import Registry

_locks: Registry[threading.Lock] = Registry()
_inner_locks: Registry[threading.Lock] = Registry()
_forking = threading.Lock()
"""Held by the thread that forks: what is `_held` is its own."""
_held: list[Generator[None]] = []


def new_lock(*, inner: bool = False) -> threading.Lock:
    """A lock for the state of one policy; an *inner* one may be taken while another is held."""
    lock = threading.Lock()
    (_inner_locks if inner else _locks).add(lock)
    return lock


def _living() -> list[threading.Lock]:
    return [*_locks.living(), *_inner_locks.living()]


def _hold(lock: threading.Lock) -> Generator[None]:
    """Hold *lock* until it is closed, or let go of. An interrupt may come after any call: but a
    generator knows for itself whether it has come so far.
    """
    with lock:
        yield


def _before() -> None:
    first = _hold(_forking)
    next(first)
    _held.append(first)
    for lock in _living():
        _held.append(_hold(lock))
        next(_held[-1])


def _after() -> None:
    global _held  # the next thread that forks has its own
    held, _held = _held, []
    while held:
        held.pop().close()


def _after_in_child() -> None:
    _after()
    for lock in (*_living(), _forking):
        if lock.locked():  # `_before` was interrupted, and whoever holds it is not here
            lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
