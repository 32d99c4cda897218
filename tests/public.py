"""The public names with their signatures: `python -m tests.public > tests/public.txt`."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from types import GenericAlias, ModuleType, UnionType
from typing import Any

from resilient.events import Event

MODULES = (
    "resilient", "resilient.errors", "resilient.events", "resilient.integrations.aiohttp",
    "resilient.integrations.asgi", "resilient.integrations.grpc", "resilient.integrations.http",
    "resilient.integrations.httpx",
    "resilient.integrations.httpx2",
    "resilient.integrations.invalidation", "resilient.integrations.litestar",
    "resilient.integrations.requests", "resilient.integrations.wsgi",
    "resilient.testing", "resilient.testing.scripts",
)  # fmt: skip
EFFECTIVE = {
    **{
        (f"{kind}client_interceptors", argument): said
        for kind in ("", "aio_")
        for argument, said in (
            ("policy", "retry, breaker and bulkhead of its own"),
            ("failures", "FAILURES"),
        )
    },
    **{
        (client, argument): said
        for client in ("ResilientAdapter", "ResilientMiddleware", "ResilientTransport")
        for argument, said in (
            ("policy", "retry, breaker and bulkhead of its own"),
            ("failures", "FAILURES"),
            ("idempotent", "IDEMPOTENT"),
        )
    },
    ("retry", "attempts"): "3, or None where stop is given",
    ("retry", "budget"): "RetryBudget(ratio=0.2, per_second=1, ttl=10) of its own",
    ("hedge", "budget"): "RetryBudget(ratio=0.05, per_second=0.2) of its own",
    ("protect", "breaker"): "breaker(consecutive_failures=5, failure_rate=1.0, on=on) of its own",
    ("protect", "limit"): "adaptive_limit(initial=5, queue=1000) of its own",
    ("fallback", "handler"): "not given",
    ("fallback", "default"): "not given",
    ("fallback", "instead"): "not given",
}
"""What stands behind a default that is a sentinel."""
POLICY = "__call__ call name stats"
BLOCK = "__enter__ __aenter__"
KEYED = f"{POLICY} {BLOCK} admit of keys"
MEMBERS = {
    "AdaptiveLimit": KEYED,
    "Backoff": "delay",
    "Attempt": "answered cut",
    "BreakerMachine": "make",
    "BloomFilter": "__contains__ add capacity error_rate from_bytes to_bytes update",
    "Breaker": f"{POLICY} {BLOCK} admit of keys state force_open disable metrics_only reset",
    "Bulkhead": f"{KEYED} resize",
    "Cache": f"{POLICY} clear invalidate key_of",
    "Call": f"{BLOCK} close fail ignore",
    "Deadline": f"{BLOCK} at check expired remaining reschedule",
    "Fallback": POLICY,
    "Hedge": POLICY,
    "InProcessInvalidation": "publish subscribe",
    "Invalidation": "publish subscribe",
    "Pipeline": POLICY,
    "Policy": "call kind name stats",
    "Protection": POLICY,
    "RateLimit": f"{KEYED} change take",
    "Retry": f"{POLICY} __iter__ __aiter__",
    "RetryBudget": "deposit left withdraw",
    "SingleFlight": f"{POLICY} do forget",
    "ResilientAdapter": "policy",
    "ResilientMiddleware": "__call__ policy stats",  # those of aiohttp, of ASGI and of WSGI
    "ResilientTransport": "policy",
    "Subscription": "__enter__ close",
    "Throttle": KEYED,
    "Timeout": POLICY,
    "Trace": "check",
    "LawBroken": "law",
    "VirtualTime": "advance now run trio_clock",
    "detached": "__enter__",
}
"""What the contract promises of each class; their other methods are for the package itself. Of two
classes with one name, each has what it has.
"""


def listing() -> Iterator[str]:
    """One line for each name, and for each member of a class."""
    for module in map(importlib.import_module, MODULES):
        for name in sorted(module.__all__):
            yield from map(
                str.rstrip, _lines(f"{module.__name__}.{name}", name, getattr(module, name))
            )


def _lines(path: str, name: str, value: object) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield f"{path}: module"
    elif isinstance(value, GenericAlias | UnionType):
        yield f"{path}: {_annotation(str(value))}"
    elif inspect.isclass(value):
        bases = ", ".join(
            base.__name__
            for base in value.__bases__
            if issubclass(base, (BaseException, enum.Enum, Event))
        )
        yield (
            f"{path}: class"
            + (f" of {bases} " if bases else " ")
            + _signature(name, value, show=_constructed_by_users(value))
        )
        yield from (f"{path}.{line}" for line in _members(value))
    elif isinstance(value, dict):
        yield f"{path}: {type(value).__name__}"
    elif isinstance(value, (frozenset, tuple)):
        yield f"{path}: {type(value).__name__} of {', '.join(sorted(map(_shown, value)))}"
    else:
        yield f"{path}{_signature(name, value)}"


def _shown(one: object) -> str:
    return one.__name__ if isinstance(one, type) else repr(one)


def _constructed_by_users(kind: type) -> bool:
    if issubclass(kind, BaseException):
        return inspect.isfunction(kind.__init__)  # the root takes what Exception takes
    return dataclasses.is_dataclass(kind) or kind.__name__ in {
        "RetryBudget",
        "BloomFilter",
        "HealthApp",
        "HealthServicer",
        "AioHealthServicer",
        "ResilientAdapter",
        "ResilientMiddleware",
        "ResilientTransport",
    }


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        for member in kind:
            yield f"{member.name} = {member.value!r}"
        return
    for name in sorted(MEMBERS.get(kind.__name__, "").split()):
        if not hasattr(kind, name):
            continue
        value = inspect.getattr_static(kind, name)
        value = value.__func__ if isinstance(value, classmethod) else value
        if isinstance(value, property):
            yield (
                f"{name}: {_annotation(inspect.signature(value.fget).return_annotation)}"
                if value.fget
                else name
            )
        else:
            yield f"{name}{_signature(name, value)}"


def _signature(name: str, value: Any, *, show: bool = True) -> str:
    if not show:
        return ""
    signature = inspect.signature(value)
    shown: list[str] = []
    before: inspect.Parameter | None = None
    for parameter in signature.parameters.values():
        if before is not None and before.kind is before.POSITIONAL_ONLY is not parameter.kind:
            shown.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and (
            before is None or before.kind not in {before.VAR_POSITIONAL, before.KEYWORD_ONLY}
        ):
            shown.append("*")
        shown.append(_parameter(name, parameter))
        before = parameter
    if before is not None and before.kind is before.POSITIONAL_ONLY:
        shown.append("/")
    result = "" if inspect.isclass(value) else f" -> {_annotation(signature.return_annotation)}"
    return f"({', '.join(shown)}){result}"


def _parameter(name: str, parameter: inspect.Parameter) -> str:
    stars = (
        "*"
        if parameter.kind is parameter.VAR_POSITIONAL
        else "**"
        if parameter.kind is parameter.VAR_KEYWORD
        else ""
    )
    text = stars + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {EFFECTIVE.get((name, parameter.name), _default(parameter.default))}"
    return text


def _annotation(annotation: object) -> str:
    return (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
    )


def _default(value: object) -> str:
    return (
        value.__name__
        if inspect.isclass(value)
        else f"{type(value).__name__}.{value.name}"
        if isinstance(value, enum.Enum)
        else repr(value)
    )


def on_a_page(name: str, fn: Callable[..., object], signature: str) -> str:
    """*signature*, as autodoc writes it, with what stands behind a constant or a sentinel."""
    defaults = inspect.unwrap(fn).__kwdefaults__ or {}  # autodoc puts names into the signature

    def shown(found: re.Match[str]) -> str:
        argument = found[1]
        said = EFFECTIVE.get((name, argument))
        if said == "not given" or (said is None and argument not in defaults):
            return f"{argument}=..."
        text = said or _default(defaults[argument])
        return f"{argument}={text.removesuffix(' of its own').partition(', or ')[0]}"

    return re.sub(r"\b(\w+)=[A-Z]{2,}\b", shown, signature)


if __name__ == "__main__":
    print("\n".join(listing()))
