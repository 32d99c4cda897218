"""httpx2: a transport with policies around each request, and the deadline on the wire.

::

    client = httpx2.AsyncClient(transport=ResilientTransport())

Needs the extra ``httpx2``.
"""

from __future__ import annotations

from typing import ClassVar, Final, final

try:
    import httpx2
except ImportError as error:  # pragma: no cover  # told in a process of its own
    raise ImportError(
        "resilient.integrations.httpx2 needs httpx2: pip install resilient-py[httpx2]"
    ) from error

from resilient.integrations._httpx.family import HttpxFamily
from resilient.integrations._httpx.transport import FamilyTransport
from resilient.integrations.http import FAILURES, IDEMPOTENT, BadStatus, Wire

__all__ = [  # noqa: RUF022  # by their code points
    "BadStatus",
    "FAILURES",
    "IDEMPOTENT",
    "ResilientTransport",
    "TRANSIENT",
    "Wire",
    "origin",
]

_FAMILY: Final = HttpxFamily("httpx2", httpx2, core="httpcore2")
TRANSIENT: Final = _FAMILY.transient
"""Errors after which another attempt may succeed. Give it to ``on=`` of a retry or breaker."""


def origin(request: httpx2.Request) -> str:
    """Where a request goes, ``scheme://host:port``: give it to ``key=`` of a policy.

    In lower case, and with the port, also where it is the scheme's own.
    """
    return _FAMILY.origin(request)


@final
class ResilientTransport(  # noqa: D101  # the docstring is that of the family
    FamilyTransport, httpx2.BaseTransport, httpx2.AsyncBaseTransport
):
    __doc__ = FamilyTransport.__doc__
    _family: ClassVar[HttpxFamily] = _FAMILY
