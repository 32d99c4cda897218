"""What an error came of: its context, which says in what circumstances it was raised.

1. Nothing that is in a context chain is taken out of it, but what was the caller's own. What is
   added goes to the end, or before what both chains have in common. No chain becomes a circle.
2. A stored error is raised again with the context that it had: ``raise`` puts whatever its
   caller handles in its place, so that the one who raises it sets it back.
3. Everything is set by `BaseException` itself, since a class of errors may refuse attributes.
"""

from __future__ import annotations

from typing import Final

set_context: Final = BaseException.__dict__["__context__"].__set__


def link(error: BaseException, last: BaseException | None) -> None:
    """Put *last*, a real error, into the context chain of what came instead of an answer."""
    if last is None:
        return
    known = _chain(last)
    if id(error) in known:
        return
    seen, end = {id(error)}, error
    while (context := end.__context__) is not None and id(context) not in known:
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
        one = one.__context__  # type: ignore[assignment]  # None ends it
    return seen
