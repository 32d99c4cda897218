"""The request that a server of ours answers here: what happens in its work may matter to it."""

from __future__ import annotations

from contextvars import ContextVar


class Served:
    """One request; tasks and threads that it starts see the same."""

    __slots__ = ("attempt", "used_up")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.used_up = False
        """Whether a retry in its work has given up: more attempts from outside are of no use."""


served: ContextVar[Served | None] = ContextVar("resilient.served", default=None)
