"""The face: which names there are, with which signatures, and what it costs to import them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import resilient
from tests.public import MEMBERS, MODULES, listing

LISTED = Path(__file__).with_name("public.txt")
EXTRAS = (
    "aiohttp", "httpx", "prometheus_client", "opentelemetry", "trio", "rich", "pytest", "_pytest",
    "uvloop", "hypothesis", "uvicorn", "starlette", "grpc", "redis", "structlog", "requests",
    "urllib3",
)  # fmt: skip
HEAVY = ("tenacity", "anyio", "ssl", "multiprocessing", "unittest")
LATE = (
    "asyncio", "decimal", "logging", "resilient.events",
    "resilient.testing", *(f"resilient._policies.{name}" for name in (
        "adaptive_limit", "bulkhead", "cache", "fallback", "hedge", "lint", "protect",
        "rate_limit", "throttle",
    )),
)  # fmt: skip


def test_names_and_signatures_are_those_that_are_listed() -> None:
    """After a wanted change: `python -m tests.public > tests/public.txt`."""
    assert list(listing()) == LISTED.read_text().splitlines()


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_there_in_order_and_once(name: str) -> None:
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(set(module.__all__))
    for one in module.__all__:
        assert hasattr(module, one)


def test_there_is_nothing_public_that_is_not_promised() -> None:
    """Rooms of the package are names too, once somebody has imported them."""
    rooms = {"drill", "integrations", "telemetry", "testing"}
    found = {name for name in vars(resilient) if name.isidentifier() and not name.startswith("_")}
    assert found - rooms - set(resilient.__all__) == set()


def test_the_promised_names_of_what_is_built_are_there() -> None:
    promised = [
        "breaker",
        "Breaker",
        "BreakerState",
        "BreakerStats",
        "retry",
        "Retry",
        "RetryStats",
        "RetryBudget",
        "backoff",
        "Backoff",
        "deadline",
        "Deadline",
        "timeout",
        "Timeout",
        "TimeoutStats",
        "remaining",
        "current_deadline",
        "detached",
        "carry",
        "singleflight",
        "SingleFlight",
        "SingleFlightStats",
        "pipeline",
        "Pipeline",
        "policies",
        "policy_of",
        "Policy",
        "Call",
        "events",
        "errors",
    ]
    assert set(promised) <= set(resilient.__all__)


def test_every_public_thing_has_a_docstring_and_so_has_every_method() -> None:
    silent = []
    for name in resilient.__all__:
        one = getattr(resilient, name)
        if not inspect.getdoc(one):
            silent.append(name)
        if inspect.isclass(one):
            silent += [
                f"{name}.{member}"
                for member, value in vars(one).items()
                if not member.startswith("_")
                and (inspect.isfunction(value) or isinstance(value, property))
                and not inspect.getdoc(getattr(one, member))
            ]
    assert [one for one in silent if not one.startswith("Policy.")] == []


def test_concrete_classes_are_final() -> None:
    for name in (
        "Breaker",
        "Retry",
        "RetryBudget",
        "Timeout",
        "Deadline",
        "SingleFlight",
        "Backoff",
        "Call",
        "Bulkhead",
        "RateLimit",
        "AdaptiveLimit",
        "Throttle",
        "Hedge",
        "Fallback",
        "Cache",
        "BloomFilter",
    ):
        assert getattr(getattr(resilient, name), "__final__", False), name


def imported_by(statement: str) -> set[str]:
    code = (
        f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import resilient", "import resilient.testing, resilient.events, resilient.errors"],
)
def test_importing_it_imports_no_extra_and_no_heavy_module(statement: str) -> None:
    loaded = imported_by(statement)
    assert "resilient" in loaded
    for name in (*EXTRAS, *HEAVY):
        if name == "ssl":  # asyncio's own
            continue
        assert not any(module == name or module.startswith(name + ".") for module in loaded), name
    assert not any(
        module.startswith(("resilient.drill", "resilient.telemetry", "resilient.integrations"))
        for module in loaded
    )


def test_what_is_loaded_late_is_there_when_it_is_asked_for() -> None:
    """In a fresh interpreter: here everything is loaded already."""
    assert not set(LATE) & imported_by("import resilient")
    code = (
        "import resilient\n"
        "with resilient.testing.virtual_time() as time: time.advance(1)\n"
        "assert resilient.events.Event.__name__ == 'Event'\n"
        "try: resilient.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "module 'resilient' has no attribute 'nothing'"


def objects() -> dict[str, tuple[object, str]]:
    """An object of each class that users hold, and what it shows beyond its listed members."""
    keyed = {
        "breaker": resilient.breaker(key="id"),
        "bulkhead": resilient.bulkhead(1, key="id"),
        "rate_limit": resilient.rate_limit(1, key="id"),
        "adaptive_limit": resilient.adaptive_limit(key="id"),
        "throttle": resilient.throttle(key="id"),
    }
    others = {
        "retry": resilient.retry(on=OSError),
        "timeout": resilient.timeout(1),
        "singleflight": resilient.singleflight(),
        "hedge": resilient.hedge(1),
        "fallback": resilient.fallback(default=None),
        "cache": resilient.cache(1),
    }
    parts = "policies retry breaker limit timeout hedge fallback"
    return {
        **{name: (policy, "kind") for name, policy in (keyed | others).items()},
        **{f"{name} of a key": (policy.of(1), "kind") for name, policy in keyed.items()},  # type: ignore[attr-defined]  # all are keyed
        "pipeline": (resilient.pipeline(resilient.timeout(1)), "kind policies"),
        "protection": (resilient.protect(on=OSError, timeout=1), f"kind {parts}"),
        "call": (resilient.bulkhead(1).admit(), ""),
        "deadline": (resilient.deadline(1), "name seconds"),
        "backoff": (resilient.backoff(1), ""),
        "budget": (resilient.RetryBudget(), ""),
    }


@pytest.mark.rule("F14")
@pytest.mark.parametrize("name", list(objects()))
def test_dir_shows_what_the_reference_documents_and_no_more(name: str) -> None:
    one, more = objects()[name]
    shown = {member for member in dir(one) if not member.startswith("_")}
    listed = MEMBERS[type(one).__name__.removesuffix("OfKey")].split()
    if name.endswith("of a key"):  # a handle has the policy's own interface, but that of keys
        listed = [member for member in listed if member not in {"of", "keys"}]
    assert shown == {one for one in listed if not one.startswith("_")} | set(more.split())
