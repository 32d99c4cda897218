"""What a type checker must refuse: mypy warns where one of these is no error."""

from __future__ import annotations

from resilient import breaker, deadline, pipeline, remaining, retry, singleflight, timeout

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
deadline("1")  # type: ignore[arg-type]
remaining(None)  # type: ignore[arg-type]
with pipeline(catalogue):  # type: ignore[attr-defined]
    pass
with retry(on=OSError):  # type: ignore[attr-defined]
    pass
