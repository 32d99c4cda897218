"""Locks that a fork leaves usable.

A child has one thread: a lock that another thread held at that moment would stay
held for ever, over a state changed by half. So the forking thread takes every lock
first, as `logging` does. The sections under these locks are a few steps long, call
no user code and take no other lock but an inner one, which comes last.
"""

from __future__ import annotations

import os
import threading

from resilient._runtime.registry import Registry

_locks: Registry[threading.Lock] = Registry()
_inner_locks: Registry[threading.Lock] = Registry()
_held: list[threading.Lock] = []


def new_lock(*, inner: bool = False) -> threading.Lock:
    """A lock for the state of one policy; an *inner* one may be taken while another is held."""
    lock = threading.Lock()
    (_inner_locks if inner else _locks).add(lock)
    return lock


def _before() -> None:
    for lock in (*_locks.living(), *_inner_locks.living()):
        lock.acquire()
        _held.append(lock)


def _after() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
