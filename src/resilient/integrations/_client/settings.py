"""The arguments of a client, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, Literal, NamedTuple

from resilient._core.checks import check_name, check_seconds, check_sync, refuse_type
from resilient._policies.bulkhead import bulkhead
from resilient._policies.common.policy import Policy
from resilient._policies.pipeline import pipeline
from resilient._policies.protect import breaker_of_protect
from resilient._policies.retry import retry
from resilient._runtime.notify import FaultLog
from resilient._typing import DEFAULT, Default
from resilient.integrations._client.library import Library
from resilient.integrations.http import Wire

Statuses = Collection[int] | Callable[[int], object]
Methods = Collection[str] | Callable[[Any], object]
STATUSES: Final = "a collection of statuses, or a predicate on one"
METHODS: Final = "a collection of methods, or a predicate"
PLACES: Final = 50
"""Requests at once to one origin: half of what most libraries' pools have for all of them."""
QUEUE: Final = 10_000
MAX_WAIT: Final = 5.0


class Settings(NamedTuple):
    """What a client was told."""

    policy: Policy | None
    is_failure: Callable[[Any], bool]
    is_idempotent: Callable[[Any], bool]
    max_retry_after: float
    wire: Wire | None
    name: str


def check_settings(
    library: Library,
    *,
    policy: Policy | Literal[Default.DEFAULT] | None,
    failures: object,
    idempotent: Methods,
    max_retry_after: float,
    wire: Wire | None,
    name: str | None,
) -> Settings:
    """The settings of a client of *library*, or the error that names the argument."""
    label = check_name("name", name, instead="name=...") or library.name
    if policy is not None and policy is not DEFAULT and not isinstance(policy, Policy):
        refuse_type("policy", policy, "a policy or pipeline, or None for none")
    if wire is not None and not isinstance(wire, Wire):
        refuse_type("wire", wire, "a Wire(...), or None for no headers")
    most = check_seconds("max_retry_after", max_retry_after, finite=False)
    return Settings(
        usual_policy(library, label) if policy is DEFAULT else policy,
        _of_statuses(library, failures),
        _of_requests(library, idempotent),
        most,
        wire,
        label,
    )


def usual_policy(library: Library, name: str) -> Policy:
    """Retry, breaker and bulkhead, for each origin."""
    on, key = library.transient, library.origin
    return pipeline(
        retry(name, on=on, key=key),
        breaker_of_protect(name, on, None, key),
        bulkhead(PLACES, queue=QUEUE, max_wait=MAX_WAIT, key=key, name=name),
        name=name,
    )


def _of_statuses(library: Library, failures: object) -> Callable[[Any], bool]:
    if callable(failures):
        return _asked("failures", failures, STATUSES)
    if not isinstance(failures, Collection) or isinstance(failures, (str, bytes)):
        refuse_type("failures", failures, STATUSES)
    for status in failures:
        library.check_status(failures, status)
    return frozenset(failures).__contains__


def _of_requests(library: Library, idempotent: object) -> Callable[[Any], bool]:
    if callable(idempotent):
        return _asked("idempotent", idempotent, METHODS)
    if not isinstance(idempotent, Collection) or isinstance(idempotent, (str, bytes)):
        refuse_type("idempotent", idempotent, METHODS)
    for method in idempotent:
        if not isinstance(method, str):
            refuse_type("idempotent", idempotent, "a collection of methods, such as {'GET'}")
        library.check_method(idempotent, method)
    methods = frozenset(method.upper() for method in idempotent)
    return lambda request: library.method(request).upper() in methods


def _asked(name: str, predicate: Callable[[Any], object], allowed: str) -> Callable[[Any], bool]:
    """*predicate*; one that raises is logged once, and means no."""
    check_sync(name, predicate, allowed)
    complain = FaultLog()

    def ask(what: Any) -> bool:
        try:
            return bool(predicate(what))
        except Exception as fault:  # noqa: BLE001  # it must not replace the call's own outcome
            complain(predicate, fault, f"{name} predicate")
            return False

    return ask
