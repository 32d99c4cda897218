"""An interrupt at every place: Ctrl-C, or another signal whose handler raises.

It comes between two steps of the interpreter, but not between any two. CPython looks for signals
where a function begins, where a loop goes round, and after a call. So nothing is raised here at
an opcode: before the k-th opcode of the package the signal is made pending, and the interpreter
delivers it where it looks next. Before those that call nothing it need not be.
"""

from __future__ import annotations

import _thread
import dis
import signal
import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import cache, partial
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

import resilient

if TYPE_CHECKING:
    from typing import Self

PACKAGE: Final = str(Path(resilient.__file__).parent)
SIGNAL: Final = signal.SIGINT
CALL_NOTHING: Final = (
    "BUILD_", "CHECK_", "COPY", "IS_OP", "JUMP_FORWARD", "LOAD_CONST", "LOAD_DEREF", "LOAD_FAST",
    "LOAD_GLOBAL", "MAKE_", "NOP", "POP_", "PRECALL", "PUSH_", "RERAISE", "RETURN_", "SET_FUNCTION",
    "STORE_", "SWAP", "TO_BOOL", "UNPACK_",
)  # fmt: skip
"""The beginnings of the names of opcodes that call nothing, or only what a later one shows."""


class Interrupt(KeyboardInterrupt):
    """What the handler raises."""


@cache
def places(code: CodeType) -> frozenset[int]:
    """The offsets of the opcodes in *code* before which to interrupt."""
    return frozenset(
        one.offset for one in dis.get_instructions(code) if not one.opname.startswith(CALL_NOTHING)
    )


class Interrupter:
    """A context manager, for the main thread: `run` interrupts inside it."""

    def __init__(self) -> None:
        self._left = 0
        self._trace = self._enter  # 3.11 lets go of the one that is taken back inside itself
        # To call it would be a call, after which the interpreter looks: still in here. To take the
        # next one of an iterator is none.
        self._pend = iter(partial(_thread.interrupt_main, SIGNAL), object())

    def __enter__(self) -> Self:
        self._handler = signal.signal(SIGNAL, _raise)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(SIGNAL, self._handler)

    def places(self, prepare: Callable[[], Callable[[], Any]]) -> int:
        """How many places there are in the function that *prepare* makes."""
        self.run(prepare, 10**9)
        return 10**9 - self._left

    def run(self, prepare: Callable[[], Callable[[], Any]], at: int) -> bool:
        """Run what *prepare* makes, and interrupt it before the *at*-th opcode of the package, from
        1; whether the interrupt came out of it.
        """
        tracer = sys.gettrace()
        warm, fn, self._left = prepare() if sys.version_info >= (3, 13) else int, prepare(), 0
        sys._getframe().f_trace_opcodes = True  # from 3.12 on it must be asked for before
        sys.settrace(self._trace)
        try:
            warm()  # 3.13 shows no opcode of what runs for the first time
            self._left = at
            copy_context().run(fn)  # a limit whose block was interrupted at its end stays in there
            bool()  # noqa: UP018  # if it is still pending, it comes here
        except Interrupt:
            return True
        finally:
            sys.settrace(tracer)
        return False

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if self._left and event == "opcode" and frame.f_lasti in places(frame.f_code):
            self._left -= 1
            if not self._left:
                sys.settrace(None)  # or it would come at the next step in here
                for _ in self._pend:
                    return None
        return self._step


def _raise(_signal: int, _frame: FrameType | None) -> None:
    raise Interrupt
