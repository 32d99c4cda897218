"""What the integrations of all HTTP libraries have in common: the error that stands for an answer,
the names of the headers, and what a block of your code says of the requests in it.
"""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, final, get_args

from resilient._core.checks import refuse, refuse_type
from resilient._core.http import FAILURES, IDEMPOTENT, Unit
from resilient._policies.common.policy import Policy
from resilient._policies.common.served import served

__all__ = [  # noqa: RUF022  # by their code points
    "BadStatus",
    "FAILURES",
    "IDEMPOTENT",
    "Wire",
    "options",
]


class BadStatus(Exception):  # noqa: N818  # named for what happened
    """An answer that is a failure, as the policies see it: your code gets the answer itself.

    Attributes:
        status: the status of the answer; of gRPC, its ``StatusCode``.
        retry_after: seconds that the server asks to wait, ``None`` if it does not; a floor under
            the wait of a retry.
        should_retry: false if the server says that it must not be asked again.
        response: the answer, in the library's own type, unread.
    """

    def __init__(
        self,
        status: int,
        retry_after: float | None = None,
        should_retry: bool = True,  # noqa: FBT001, FBT002  # positional, so that args are the fields
        response: Any = None,
    ) -> None:
        super().__init__(status, retry_after, should_retry, response)
        self.status, self.retry_after = status, retry_after
        self.should_retry, self.response = should_retry, response

    def __str__(self) -> str:
        asks = "" if self.retry_after is None else f", to be asked again in {self.retry_after:g} s"
        what = getattr(self.status, "name", f"HTTP {self.status}")
        return f"{what}{asks}{'' if self.should_retry else ', not to be asked again'}"


@dataclass(frozen=True)
class Wire:
    """The names of the headers that go between our clients and servers; ``None`` for none.

    Attributes:
        timeout: what is left of the deadline.
        unit: of that, ``"s"`` or ``"ms"``.
        attempt: which attempt it is, from 1.
        should_retry: what a server says by ``false`` where another attempt is of no use.
    """

    timeout: str | None = "X-Request-Timeout"
    unit: Unit = "s"
    attempt: str | None = "X-Request-Attempt"
    should_retry: str | None = "X-Should-Retry"

    def __post_init__(self) -> None:
        for field in ("timeout", "attempt", "should_retry"):
            name = getattr(self, field)
            if name is not None and not isinstance(name, str):
                refuse_type(field, name, "the name of a header, or None")
            if name is not None and not _is_token(name):
                refuse(field, name, "the name of a header: letters, digits and hyphens")
        if self.unit not in get_args(Unit):
            refuse("unit", self.unit, '"s" or "ms"')


def _is_token(name: str) -> bool:
    return (
        name.isascii() and bool(name) and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)
    )


@dataclass(frozen=True, slots=True)
class ServerStats:
    """Totals of a server's middleware.

    Of all ``requests``, ``in_flight`` are not over. ``not_started``: no time was left, and the
    handler did not run. ``shed``: the server's own limit refused. ``rejected``: a policy in the
    handler did. ``deadline_exceeded``: a limit ended the handler. ``disconnected``: the caller left
    before its answer. ``ignored_headers``: limits that are malformed, or come from callers that are
    not trusted.
    """

    name: str
    requests: int
    in_flight: int
    not_started: int
    shed: int
    rejected: int
    deadline_exceeded: int
    disconnected: int
    ignored_headers: int


def current_attempt() -> int:
    """Which attempt of its caller's the request is that is served here: 1, or what a caller whose
    headers are trusted has said. 1 outside a request.
    """
    request = served.get()
    return 1 if request is None else request.attempt


class Keep(enum.Enum):
    """Stands for what is not to change."""

    KEEP = enum.auto()


KEEP: Final = Keep.KEEP


class Options(NamedTuple):
    """What the blocks around a request say of it."""

    idempotent: bool | None = None
    policy: Policy | Literal[Keep.KEEP] | None = KEEP


NOTHING_SAID: Final = Options()
said: ContextVar[Options] = ContextVar("resilient.http.options", default=NOTHING_SAID)


@final
class _Block:
    """What `options` makes."""

    __slots__ = ("_says", "_token")

    def __init__(self, says: Options) -> None:
        self._says = says
        self._token: Token[Options] | None = None

    def __enter__(self) -> None:
        if self._token is not None:
            raise RuntimeError("options(...) is for one block: write it in each `with`")
        outer, (idempotent, policy) = said.get(), self._says
        self._token = said.set(
            Options(
                outer.idempotent if idempotent is None else idempotent,
                outer.policy if policy is KEEP else policy,
            )
        )

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        with suppress(ValueError):  # in another context, where a generator may end
            said.reset(self._token)


def options(
    *, idempotent: bool | None = None, policy: Policy | Literal[Keep.KEEP] | None = KEEP
) -> AbstractContextManager[None]:
    """Say of the requests that begin in this block what their client can't know.

    ``with options(idempotent=True):`` around a POST that your service takes twice as once, or
    ``with options(policy=None):`` where nothing is to stand between you and the answer. It holds
    for every client of ours, in whatever library, and in child tasks and threads. Blocks nest; of
    those that say something the innermost counts.

    Args:
        idempotent: whether several such requests do what one does, so that they may be repeated
            and hedged; ``None`` leaves it to the client's ``idempotent``.
        policy: a policy or pipeline in place of the client's, ``None`` for none. Build it once,
            not in the block: it is what keeps count.

    Raises:
        TypeError: one of them is something else.
        RuntimeError: from a second ``with`` of one object: write ``options(...)`` in each.
    """
    if idempotent is not None and not isinstance(idempotent, bool):
        refuse_type("idempotent", idempotent, "True, False or None")
    if policy is not None and policy is not KEEP and not isinstance(policy, Policy):
        refuse_type("policy", policy, "a policy, or None for none")
    return _Block(Options(idempotent, policy))
