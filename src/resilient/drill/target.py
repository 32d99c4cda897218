"""A look at the user's service before it is drilled."""

from __future__ import annotations

from typing import Final

import httpx2

from resilient.drill.crew import DrillError

PATIENCE: Final = 5.0
LEAST_BAD: Final = 400


async def check(url: str) -> None:
    """`DrillError` unless the service gives a good answer now."""
    context = httpx2.create_ssl_context()  # which honours SSL_CERT_FILE, as trust_env would
    try:
        async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=PATIENCE) as http:
            response = await http.get(url)
    except httpx2.HTTPError as error:
        raise DrillError(
            f"no answer from {url} ({type(error).__name__}: {error}); "
            "start the service, or correct --target"
        ) from None
    if response.status_code >= LEAST_BAD:
        raise DrillError(
            f"{url} answered {response.status_code} before anything was broken; "
            "give --target a URL that answers 200"
        )
