"""What the applications for health checks do alike (W51)."""

from __future__ import annotations

import json

from resilient._core.checks import refuse_type
from resilient._policies.health import Critical, check_critical, health


class HealthCheck:
    """What a health check is told, and its answer."""

    def __init__(self, *, critical: Critical = (), details: bool = True) -> None:
        self._critical: Critical = check_critical(critical)
        if not isinstance(details, bool):
            refuse_type("details", details, "True or False")
        self._details = details

    def _answer_to(self, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """The status, headers and body for a request by *method*."""
        if method not in {"GET", "HEAD"}:
            headers = [("content-type", "text/plain"), ("content-length", "0")]
            return 405, [("allow", "GET, HEAD"), *headers], b""
        found = health(critical=self._critical)
        body = json.dumps(found if self._details else {"status": found["status"]}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
        ]
        return 503 if found["status"] == "down" else 200, headers, body if method == "GET" else b""
