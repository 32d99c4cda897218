"""What a client of ours knows of its attempts, beside their errors: asked by retry and hedge."""

from __future__ import annotations

from typing import Protocol


class Repeats(Protocol):
    """Whether there may be another attempt, and what is left of the one before it."""

    def may_repeat(self, error: BaseException | None) -> bool:
        """Whether another attempt may follow one that raised *error*, or returned what is unwanted:
        asked when ``on`` says yes.
        """
        ...

    def drop(self) -> None:
        """Another attempt follows: let go of what this one came to, before the wait."""

    async def drop_async(self) -> None:
        """`drop` in async code."""
