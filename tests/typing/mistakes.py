"""What a type checker must refuse: mypy warns where one of these is no error."""

from __future__ import annotations

from resilient import (
    adaptive_limit,
    breaker,
    bulkhead,
    cache,
    deadline,
    fallback,
    hedge,
    pipeline,
    protect,
    rate_limit,
    remaining,
    retry,
    singleflight,
    throttle,
    timeout,
)

catalogue = breaker()


@pipeline(retry(on=OSError), catalogue, timeout(1))
def price(sku: str, *, amount: int = 1) -> float:
    return 1.0


price(1)  # type: ignore[arg-type]
price()  # type: ignore[call-arg]
price("a", 2)  # type: ignore[call-arg]
price("a").upper()  # type: ignore[attr-defined]
catalogue.call(price, 1)  # type: ignore[arg-type]
singleflight().do("k", price, amount="2")  # type: ignore[call-arg, arg-type]
retry()  # type: ignore[call-arg]
retry("r", OSError)  # type: ignore[call-arg]
retry(on=[OSError])  # type: ignore[arg-type]
breaker("db", 5)  # type: ignore[call-arg]
breaker(window="10")  # type: ignore[arg-type]
breaker(initial="open")  # type: ignore[arg-type]
breaker(trip=30.0)  # type: ignore[arg-type]
deadline("1")  # type: ignore[arg-type]
remaining(None)  # type: ignore[arg-type]
bulkhead()  # type: ignore[call-arg]
bulkhead(1, 2)  # type: ignore[call-arg]
rate_limit("10")  # type: ignore[arg-type]
rate_limit(10, max_wait=None)  # type: ignore[arg-type]
rate_limit(10, cost="tokens")  # type: ignore[arg-type]
rate_limit(10).change(5)  # type: ignore[call-arg]
adaptive_limit(algorithm="aime")  # type: ignore[arg-type]
adaptive_limit(priority="high")  # type: ignore[arg-type]
throttle(on=[OSError])  # type: ignore[arg-type]
throttle(on_result=503)  # type: ignore[arg-type]
hedge(1, budget=0.1)  # type: ignore[arg-type]
fallback(3)  # type: ignore[call-overload]
fallback(instead="sorry")  # type: ignore[call-overload]
fallback(default=1, instead=price)  # type: ignore[call-overload]
cache("60")  # type: ignore[call-overload]
cache(60, exists=3)  # type: ignore[call-overload]
protect("db", timeout=1)  # type: ignore[call-overload]
protect(on=OSError, timeout=1, limit=bulkhead(1))  # type: ignore[call-overload]
fallback(default="sorry")(price)("a").upper()  # type: ignore[union-attr]
cache(60, exists={"a"})(price)("a").is_integer()  # type: ignore[union-attr]
bulkhead(1)(price)(1)  # type: ignore[arg-type]
fallback(default=None)(price)("a", 2)  # type: ignore[call-arg]
with hedge(1):  # type: ignore[attr-defined]
    pass
with cache(60):  # type: ignore[attr-defined]
    pass
with pipeline(catalogue):  # type: ignore[attr-defined]
    pass
with retry(on=OSError):  # type: ignore[attr-defined]
    pass
