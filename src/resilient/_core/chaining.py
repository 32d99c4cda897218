"""What an error carries along: its context, its cause, its notes.

1. Nothing is taken out of a context chain, but what a caller was handling when it began what
   several share. What is added goes to the end, or before what both chains have in common. No chain
   becomes a circle.
2. A stored error is raised again with the context that it had. ``raise`` puts whatever is being
   handled into its place, so the one who raises it sets it back.
3. Context and cause are read and set by `BaseException` itself, and a note that is refused is left
   out: whatever a class of errors makes of its attributes, the caller gets the error.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

_context, _cause = BaseException.__dict__["__context__"], BaseException.__dict__["__cause__"]
context_of: Final = _context.__get__
set_context: Final = _context.__set__
cause_of: Final = _cause.__get__
set_cause: Final = _cause.__set__


def link(error: BaseException, last: BaseException | None) -> None:
    """Put *last*, a real error, into the context chain of what came instead of an answer."""
    if last is None:
        return
    known = _chain(last)
    if id(error) in known:
        return
    seen, end = {id(error)}, error
    while (context := context_of(end)) is not None and id(context) not in known:
        if id(context) in seen:
            return  # somebody made it a circle
        seen.add(id(context))
        end = context
    set_context(end, last)


def _chain(error: BaseException) -> set[int]:
    """The identities of *error* and of all in its context chain."""
    seen, one = set[int](), error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one = context_of(one)
    return seen


def comes_of_close(error: BaseException) -> bool:
    """Whether *error* came of closing a coroutine: it is that, or what the clean-up raised. The
    collector closes coroutines, too, so it may come from anywhere.
    """
    if context_of(error) is None:  # as most often
        return isinstance(error, GeneratorExit)
    seen, one = set[int](), error
    while one is not None and id(one) not in seen:
        if isinstance(one, GeneratorExit):
            return True
        seen.add(id(one))
        one = context_of(one)
    return False


def forget(error: BaseException, handled: BaseException | None) -> None:
    """Take *handled* out of *error*, which was raised while a caller was handling that."""
    found, seen = [error], {id(None), id(handled)}
    while handled is not None and found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if context_of(one) is handled:
            set_context(one, None)
        found += (context_of(one), cause_of(one))
        if isinstance(one, BaseExceptionGroup):
            found += one.exceptions


def add_note(error: BaseException, text: str, start: str = "") -> None:
    """Note *text* on *error*, in place of one that begins with *start*, if it takes notes."""
    with suppress(Exception):
        notes = getattr(error, "__notes__", ())
        kept = [one for one in notes if not (start and one.startswith(start))]
        error.__notes__ = [*kept, text]
