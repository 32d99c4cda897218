"""What the parts of a hot path cost on this interpreter: the reasons for how ours are written."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass

from benchmarks.imported import variable
from benchmarks.timing import Call, Case, Entry

here: ContextVar[object] = ContextVar("here", default=None)
here_get = here.get
numbers, numbers_next = itertools.count(), itertools.count().__next__
ticks = itertools.repeat(None, sys.maxsize)
lock = threading.Lock()
TEXT, NUMBER = "text", 1.0


@dataclass(frozen=True, slots=True)
class Frozen:
    one: str
    two: float
    three: object


@dataclass(slots=True)
class Plain:
    one: str
    two: float
    three: object


class DictError(Exception):
    def __init__(self, one: str, two: float, three: object) -> None:
        super().__init__(one, two, three)
        self.one, self.two, self.three = one, two, three


class ArgsError(Exception):
    """Its fields are its ``args``, made without ``__init__``."""


new_error = Exception.__new__


def nothing() -> None: ...


def call() -> None:
    nothing()


def count_next() -> None:
    next(numbers)


def count_bound() -> None:
    numbers_next()


def repeat_next() -> None:
    next(ticks)


def clock() -> None:
    time.monotonic()


def with_lock() -> None:
    with lock:
        pass


def acquire_release() -> None:
    lock.acquire()
    lock.release()


def variable_get() -> None:
    here_get()


def variable_of_an_imported_name() -> None:
    variable.get()


def suppress() -> None:
    with contextlib.suppress(ValueError):
        pass


def largest() -> None:
    max(NUMBER, 2.0)


def frozen() -> None:
    Frozen(TEXT, NUMBER, None)


def plain() -> None:
    Plain(TEXT, NUMBER, None)


def error_with_a_dict() -> None:
    DictError(TEXT, NUMBER, None)


def error_of_args() -> None:
    new_error(ArgsError, TEXT, NUMBER, None)


def raised_here() -> None:
    try:
        raise ValueError
    except ValueError:
        pass


def _raise() -> None:
    raise ValueError


def raised_a_frame_below() -> None:
    try:
        _raise()
    except ValueError:
        pass


PARTS: list[tuple[str, Call]] = [
    ("nothing: the call that is measured", nothing),
    ("one more Python call", call),
    ("next(itertools.count)", count_next),
    ("itertools.count().__next__, bound", count_bound),
    ("next(itertools.repeat)", repeat_next),
    ("time.monotonic()", clock),
    ("with lock", with_lock),
    ("lock.acquire(), lock.release()", acquire_release),
    ("ContextVar.get, bound", variable_get),
    ("ContextVar.get, of an imported name", variable_of_an_imported_name),
    ("contextlib.suppress", suppress),
    ("max() of two", largest),
    ("a frozen dataclass of three", frozen),
    ("a dataclass of three", plain),
    ("an error with fields in its dict", error_with_a_dict),
    ("an error whose fields are its args", error_of_args),
    ("raise and except", raised_here),
    ("raise, a frame below", raised_a_frame_below),
]
CASES = [
    Case(
        "parts",
        "the parts of a hot path, each with the call that is measured",
        "sync",
        tuple(Entry(name, lambda part=part: part, by_hand=True) for name, part in PARTS),
    )
]
