"""Litestar, which answers errors itself, before any middleware sees them: what policies raise gets
the answers that `ResilientMiddleware` of `resilient.integrations.asgi` gives.

::

    app = Litestar(..., exception_handlers=exception_handlers)
    app = ResilientMiddleware(app, timeout=1.0)

Needs the extra ``litestar``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

try:
    from litestar import Request, Response
    from litestar.exceptions.responses import create_debug_response, create_exception_response
except ImportError as error:
    raise ImportError(
        "resilient.integrations.litestar needs litestar: pip install resilient-py[litestar]"
    ) from error

from resilient.integrations._server.answers import answer_to

__all__ = ["exception_handlers"]


def _handle(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    answer = answer_to(error)
    if answer is not None:
        headers = dict(answer.headers(is_head=False))
        del headers["content-length"]
        return Response(
            answer.body(is_head=False),
            status_code=answer.status,
            headers=headers,
            media_type=headers.pop("content-type"),
        )
    if request.app.debug:
        return create_debug_response(request, error)
    return create_exception_response(request, error)


exception_handlers: Final[dict[int | type[Exception], Callable[..., Response[Any]]]] = {
    500: _handle
}
"""For ``Litestar(exception_handlers=...)``: what a policy raises is 503 or 504, any other error is
answered as Litestar does. Add your own to a copy of it.
"""
