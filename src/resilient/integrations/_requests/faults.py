"""What an error of requests, or of urllib3 below it, says of the request (W4)."""

from __future__ import annotations

import ssl
from traceback import walk_tb
from typing import Any, Final

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from requests.exceptions import SSLError as RequestsSSLError
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    MaxRetryError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
    UnrewindableBodyError,
)
from urllib3.util.ssl_match_hostname import CertificateError

from resilient._core.http import Fault

NOT_SENT: Final = (
    ConnectTimeoutError,  # with it, that nobody listens there, or that there is no such name
    ProxyError,
    requests.ConnectTimeout,
    requests.exceptions.ProxyError,
)
OWN: Final = (
    EmptyPoolError,
    ClosedPoolError,
    UnrewindableBodyError,
    ValueError,  # what is wrong with a URL, a scheme, a header, a time limit
)
READING: Final[tuple[tuple[type[Exception], type[requests.RequestException]], ...]] = (
    (ProtocolError, ChunkedEncodingError),
    (DecodeError, ContentDecodingError),
    (ReadTimeoutError, requests.ConnectionError),
    (SSLError, RequestsSSLError),
)
"""What `Response.iter_content` makes of the errors of urllib3."""


def fault_of(error: BaseException) -> Fault:
    """What *error* says of what was sent."""
    cause = _cause(error)
    if isinstance(cause, NOT_SENT) or (isinstance(cause, SSLError) and _in_handshake(cause)):
        return Fault.NOT_SENT
    if isinstance(cause, OWN) or type(cause) is OSError:  # a file of certificates is missing
        return Fault.OWN
    return Fault.BROKEN


def as_read(error: BaseException) -> BaseException:
    """An error of a body, as it comes from `Response.iter_content`: the brackets see what the
    caller does.
    """
    return next((ours(error) for theirs, ours in READING if isinstance(error, theirs)), error)


def _cause(error: BaseException) -> BaseException:
    """What urllib3 has raised, if *error* is what requests makes of it."""
    if isinstance(error, requests.RequestException) and error.args:
        told = error.args[0]
        error = told if isinstance(told, BaseException) else error
    return error.reason or error if isinstance(error, MaxRetryError) else error


def _in_handshake(error: SSLError) -> bool:
    """Whether there was no secure connection yet. Where there was one, the request was perhaps
    sent, and requests calls that by the same name.
    """
    cause: Any = error.args[0] if error.args else None
    if isinstance(cause, (ssl.SSLCertVerificationError, CertificateError)):
        return True
    steps = walk_tb(getattr(cause, "__traceback__", None))
    return any(frame.f_code.co_name == "do_handshake" for frame, _line in steps)
