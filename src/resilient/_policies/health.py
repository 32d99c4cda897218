"""What the policies of this process say of the things it depends on."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from resilient._core.breaker import BreakerState
from resilient._core.checks import refuse_type
from resilient._policies.breaker import Breaker
from resilient._policies.common.policy import PolicyBase, policies
from resilient._policies.pipeline import Pipeline

Critical = Collection[str] | Literal[True]
SHUT: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)
IN_TROUBLE: Final = (*SHUT, BreakerState.HALF_OPEN)
WORST_FIRST: Final = ("down", "degraded", "ok")


def health(*, critical: Critical = ()) -> dict[str, Any]:
    """Say how this process is, as far as its policies know: for a health check, or a page.

    The answer can be made JSON as it is: ``{"status": s, "policies": [{"name": ..., "kind": ...,
    "status": ..., "stats": {...}}, ...]}``, of every policy that has a name, but for pipelines. A
    breaker is ``"degraded"`` while it, or a key of it, is open, forced open or half-open, and a
    keyed one says in ``"open_keys"`` how many keys are. Everything else is ``"ok"``. The whole is
    as bad as the worst.

    Args:
        critical: the names of breakers without which this process is of no use, or ``True`` for
            all: while one of them is open or forced open, it is ``"down"``. A keyed breaker never
            is, since its other keys work.

    Raises:
        TypeError: *critical* is no collection of names.
    """
    names = check_critical(critical)
    found = [
        _health_of(policy, names)
        for policy in policies()
        if isinstance(policy, PolicyBase)
        and policy._name is not None
        and not isinstance(policy, Pipeline)
    ]
    statuses = {one["status"] for one in found} | {"ok"}
    return {"status": next(one for one in WORST_FIRST if one in statuses), "policies": found}


def check_critical(critical: object) -> Critical:
    """*critical*, if it says which breakers are."""
    if critical is True:
        return True
    ok = isinstance(critical, Collection) and not isinstance(critical, (str, bytes))
    if not ok or not all(isinstance(name, str) for name in critical):  # type: ignore[attr-defined]  # ok says so
        refuse_type("critical", critical, "a collection of names of breakers, or True for all")
    return critical  # type: ignore[return-value]  # the same


def _health_of(policy: PolicyBase, critical: Critical) -> dict[str, Any]:
    found: dict[str, Any] = {"name": policy.name, "kind": policy.kind, "status": "ok"}
    if isinstance(policy, Breaker):
        found.update(_health_of_breaker(policy, critical))
    return {**found, "stats": _plain(policy.stats())}


def _health_of_breaker(policy: Breaker, critical: Critical) -> dict[str, Any]:
    troubled = sum(policy._visit(lambda state, _now: state.state in IN_TROUBLE))
    status = "degraded" if troubled else "ok"
    if policy._states.is_keyed:
        return {"status": status, "open_keys": troubled}
    is_critical = critical is True or policy.name in critical
    return {"status": "down" if is_critical and policy.state in SHUT else status}


def _plain(value: object) -> Any:
    """*value* as JSON has it: no enum, and no number that is none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
