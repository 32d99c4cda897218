"""Every kind of policy, once: a new one gets a row in each table here, and so its general tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient import (
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    retry,
    singleflight,
    throttle,
    timeout,
)

Maker = Callable[..., Any]


def make_pipeline(name: str | None = None) -> Any:
    return pipeline(
        singleflight(name),
        retry(name, on=LookupError),
        breaker(name),
        timeout(1000, name=name),
        name=name,
    )


FACTORIES: dict[str, Maker] = {
    "breaker": breaker,
    "retry": retry,
    "timeout": timeout,
    "singleflight": singleflight,
    "pipeline": pipeline,
    "bulkhead": bulkhead,
    "rate_limit": rate_limit,
    "adaptive_limit": adaptive_limit,
    "throttle": throttle,
    "hedge": hedge,
    "fallback": fallback,
    "cache": cache,
    "protect": protect,
}
MAKERS: dict[str, Maker] = {
    "breaker": breaker,
    "retry": lambda name=None: retry(name, on=LookupError),
    "timeout": lambda name=None: timeout(1000, name=name),
    "singleflight": singleflight,
    "pipeline": make_pipeline,
    "bulkhead": lambda name=None: bulkhead(10, name=name),
    "rate_limit": lambda name=None: rate_limit(1000, name=name),
    "adaptive_limit": lambda name=None: adaptive_limit(name=name),
    "throttle": lambda name=None: throttle(name=name),
    "hedge": lambda name=None: hedge(1000, on=LookupError, name=name),
    "fallback": lambda name=None: fallback(default=None, on=ZeroDivisionError, name=name),
    "cache": lambda name=None: cache(1000, name=name),
    "protect": lambda name=None: protect(name, on=LookupError, timeout=1000),
}
"""One of each kind that lets a healthy call through."""
ASYNC_ONLY = {"hedge"}
"""These refuse sync functions (H5), so that plain threads have none of them."""
KEYED: dict[str, Maker] = {
    "breaker": lambda key, **how: breaker(key=key, **how),
    "bulkhead": lambda key, **how: bulkhead(1, key=key, **how),
    "rate_limit": lambda key, **how: rate_limit(9, key=key, **how),
    "adaptive_limit": lambda key, **how: adaptive_limit(key=key, **how),
    "throttle": lambda key, **how: throttle(key=key, **how),
}
"""Those that keep a state for each key, ``max_keys`` at most."""
