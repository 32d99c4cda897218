"""A request as it arrives: what its caller says of its patience, and what is left of that here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resilient._core.http import attempt_of, limit_of, margin_of
from resilient._policies.common.served import Served
from resilient.integrations._server.counts import Counts
from resilient.integrations._server.settings import Settings

Headers = Mapping[str, Sequence[str]]
"""Each value of a header, by its name in lower case."""


def arrived(
    settings: Settings, counts: Counts, scope: Any, headers_of: Callable[[Any], Headers]
) -> tuple[float, Served]:
    """Seconds that the caller leaves, and the request: what of its headers counts (W20, W21)."""
    wire = settings.wire
    if wire is None:
        return math.inf, Served(1)
    values = headers_of(scope)
    limit = limit_of(values, wire.unit, wire.timeout)
    if not settings.trusts(scope):
        if limit.seconds < math.inf or limit.ignored:
            counts.add("ignored_headers")
        return math.inf, Served(1)
    for _ in range(limit.ignored):
        counts.add("ignored_headers")
    attempt = 1 if wire.attempt is None else attempt_of(values.get(wire.attempt.lower(), ()))
    return settings.at_most(limit.seconds), Served(attempt)


def limit_here(settings: Settings, scope: Any, limit: float) -> tuple[float, float]:
    """Seconds for the handler where the caller leaves *limit*, and the margin in it (W22)."""
    margin = margin_of(limit, settings.margin)
    return min(limit - margin, settings.timeout_of(scope)), margin
