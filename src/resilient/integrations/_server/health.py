"""The answer to a health check (W51)."""

from __future__ import annotations

import json

from resilient._policies.health import Critical, health


def answer_health(
    method: str, critical: Critical, *, details: bool
) -> tuple[int, list[tuple[str, str]], bytes]:
    """The status, headers and body for a request by *method*."""
    if method not in {"GET", "HEAD"}:
        return 405, [("allow", "GET, HEAD"), ("content-length", "0")], b""
    found = health(critical=critical)
    body = json.dumps(found if details else {"status": found["status"]}).encode()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    ]
    return 503 if found["status"] == "down" else 200, headers, body if method == "GET" else b""
