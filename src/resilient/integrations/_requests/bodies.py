"""Bodies: of the caller's request, and of the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from functools import cache, partial
from typing import Any, Final, TypeVar

import requests
from typing_extensions import override
from urllib3.exceptions import ReadTimeoutError
from urllib3.response import HTTPResponse

from resilient._policies.deadline.block import deadline_here
from resilient._policies.deadline.here import left_here
from resilient.errors import DeadlineExceeded
from resilient.integrations._client.exchange import Exchange, Held, note_deadline
from resilient.integrations._client.families import of_both
from resilient.integrations._requests.faults import as_read

T = TypeVar("T")
PART: Final = 2**16
"""Bytes, at most, of what is read at once."""


class WatchedBody:
    """The caller's body, iterable or a file: what it raises is no fault of the service."""

    def __init__(self, body: Any, exchange: Exchange) -> None:
        self._body, self._exchange = body, exchange

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._body
        except Exception as error:
            self._exchange.body_error = error
            raise

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._body, name)  # or the error that a file has it, and an iterable not
        return self._read if name == "read" else found

    def _read(self, *size: int) -> Any:
        try:
            return self._body.read(*size)
        except Exception as error:
            self._exchange.body_error = error
            raise


def is_held(body: Any) -> bool:
    """Whether a body is there as a whole, and can be sent again."""
    if body is None or isinstance(body, str):
        return True
    try:
        memoryview(body)
    except TypeError:
        return False
    return not hasattr(body, "read")


class HeldBody(HTTPResponse):
    """The body of an answer: its end is that of the calls that are held (W10).

    Whoever has the answer may read its ``raw`` as well, by any of a dozen methods and attributes,
    or ask what it is an instance of. So it stays what it was, and only changes its class.

    With a deadline it is read as it comes, which is checked before each part: nothing interrupts a
    thread, and a service that sends a byte now and then would never meet the limit of the socket.
    """

    _helds: tuple[Held, ...] = ()
    _name: str
    _as_it_comes: bool | None = None
    """How it is streamed: as it began, since chunks are counted by urllib3 or by `http.client`."""

    @staticmethod
    def hold(raw: HTTPResponse, held: Held, name: str) -> None:
        """End *held* when the body of *raw* does."""
        raw.__class__ = _holding(type(raw))
        assert isinstance(raw, HeldBody)
        raw._helds = (held, *raw._helds)  # one adapter may stand in another
        raw._name = name

    @override
    def stream(
        self, amt: int | None = PART, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        if self._as_it_comes is None:
            self._as_it_comes = deadline_here() is not None
        if not self._as_it_comes:
            yield from super().stream(amt, decode_content)
            return
        while part := self.read1(amt or PART, decode_content):
            yield part

    @override
    def read(
        self,
        amt: int | None = None,
        decode_content: bool | None = None,
        cache_content: bool = False,
    ) -> bytes:
        most = math.inf if amt is None or amt < 0 else amt
        if cache_content or deadline_here() is None:
            data = self._watch(super().read, amt, decode_content, cache_content)
        else:
            data = b"".join(self._parts(most, decode_content=decode_content))
        if most == math.inf:
            self._end()
        return data

    def _parts(self, most: float, *, decode_content: bool | None) -> Iterator[bytes]:
        """What comes, until it is *most* bytes."""
        while most > 0 and (part := self.read1(int(min(most, PART)), decode_content)):
            yield part
            most -= len(part)

    @override
    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        return self._watch(super().read1, amt, decode_content)

    @override
    def read_chunked(
        self, amt: int | None = None, decode_content: bool | None = None
    ) -> Generator[bytes, None, None]:
        parts = super().read_chunked(amt, decode_content)
        while (part := self._watch(partial(next, parts, None))) is not None:
            yield part

    @override
    def drain_conn(self) -> None:
        super().drain_conn()
        self._end()

    @override
    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end()

    def __del__(self) -> None:
        self._helds = ()  # lost, not closed: the collector must not wait for a lock
        super().__del__()

    def _watch(self, read: Callable[..., T], *args: Any) -> T:
        """``read(*args)``, the next part."""
        try:
            self._check_deadline()
            part = read(*args)
        except BaseException as error:
            if isinstance(error, ReadTimeoutError):
                note_deadline(error, self._name)
            self._end(as_read(error))
            if isinstance(error, DeadlineExceeded):
                self.close()
                self.release_conn()
            raise
        if self.closed:
            self._end()
        return part

    def _check_deadline(self) -> None:
        """A part that comes too late is not read (W11)."""
        if self.closed or (limit := deadline_here()) is None or left_here() > 0:
            return
        raise of_both(limit._exceeded(self._name, started=True), requests.Timeout)

    def _end(self, error: BaseException | None = None) -> None:
        for held in self._helds:
            held.end(error)


@cache
def _holding(kind: type[HTTPResponse]) -> Any:
    """*kind*, and a `HeldBody`."""
    if issubclass(kind, HeldBody):
        return kind
    return type(kind.__name__, (HeldBody, kind), {"__module__": kind.__module__})
