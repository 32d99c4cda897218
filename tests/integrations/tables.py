"""What holds for the clients of all HTTP libraries, as tables."""

from __future__ import annotations

from typing import Any

from resilient import breaker, cache, pipeline, retry, singleflight
from resilient.integrations.http import Wire

BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"policy": cache(ttl=1)}, TypeError, "policy must not have.*its answer is used once"),
    ({"policy": pipeline(retry(on=OSError), singleflight())}, TypeError, "policy must not have"),
    ({"policy": retry}, TypeError, "policy must be a policy or pipeline, or None"),
    ({"policy": breaker(key="request")}, TypeError, "such as origin, not 'request'"),
    ({"policy": retry(on=OSError, key="url")}, TypeError, "such as origin, not 'url'"),
    ({"failures": 503}, TypeError, "failures must be a collection of statuses"),
    ({"failures": "503"}, TypeError, "failures must be a collection of statuses"),
    ({"failures": {"503"}}, TypeError, "failures must be a collection of whole numbers"),
    ({"failures": {99}}, ValueError, "failures must be statuses from 100 to 599"),
    ({"idempotent": "GET"}, TypeError, "idempotent must be a collection of methods"),
    ({"idempotent": [1]}, TypeError, "idempotent must be a collection of methods"),
    ({"max_retry_after": -1}, ValueError, "max_retry_after must be"),
    ({"wire": "ms"}, TypeError, r"wire must be a Wire\(...\), or None"),
    ({"wire": Wire}, TypeError, r"write Wire\(...\)"),
    ({"name": 5}, TypeError, "name must be a string"),
]
ORIGINS = [
    ("http://Shop.test/a?b", "http://shop.test:80"),
    ("https://shop.test", "https://shop.test:443"),
    ("https://shop.test:8443/", "https://shop.test:8443"),
    ("http://[::1]/", "http://[::1]:80"),
    ("HTTP://127.0.0.1:8000", "http://127.0.0.1:8000"),
]
IDEMPOTENT: list[tuple[str, dict[str, Any], dict[str, Any], bool | None, bool]] = [
    ("GET", {}, {}, None, True),
    ("POST", {}, {}, None, False),
    ("PATCH", {}, {}, None, False),
    ("PUT", {"content": b"x"}, {}, None, True),
    ("POST", {"headers": {"Idempotency-Key": "7"}}, {}, None, True),
    ("POST", {}, {"idempotent": ["post"]}, None, True),
    ("GET", {}, {"idempotent": ["post"]}, None, False),
    ("POST", {}, {"idempotent": lambda request: request.url.path == "/"}, None, True),
    ("POST", {}, {}, True, True),  # W15
    ("GET", {}, {}, False, False),
]
"""A request by its method and the rest, settings, what `options` say, and whether it is."""
NOW = {"retry-after-ms": "0"}
"""Asks to come again at once."""


def runs(attempts: list[str | None]) -> list[list[str | None]]:
    """The attempts of each call: a new one begins with the first."""
    found: list[list[str | None]] = []
    for number in attempts:
        if number == "1":
            found.append([])
        found[-1].append(number)
    return found
