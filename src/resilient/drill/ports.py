"""Loopback ports of the system's choice, kept while the service behind them is down.

The conductor holds each service's port bound, without listening, for the whole run, and
the service binds it a second time. So nobody else gets the port, by chance, during a
crash, and a connection to it is refused as it would be on a quiet machine.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


def bind(port: int = 0) -> socket.socket:
    """Take a loopback *port*, shared with those of us that hold it; 0 takes any."""
    # with its protocol named, or asyncio would leave Nagle's algorithm on
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", port))
    except OSError:
        taken.close()
        raise
    return taken


@contextlib.contextmanager
def reserved(count: int) -> Iterator[list[int]]:
    """*count* ports that nobody else gets inside the block."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(bind()).getsockname()[1] for _ in range(count)]
