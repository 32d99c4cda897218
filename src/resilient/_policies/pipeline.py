"""Pipeline: several policies as one, the first outermost."""

from __future__ import annotations

from typing import Any, TypeVar, cast, final, overload

from resilient._core.checks import check_name
from resilient._policies.common.policy import Policy, PolicyBase
from resilient._policies.common.shared import set_once
from resilient._policies.common.widening import Widening
from resilient._runtime.decorate import AnyFunction, Guarding, bare_wrapper

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pipeline(PolicyBase):
    """Several policies in one object; `pipeline` makes it."""

    kind = "pipeline"
    policies: tuple[Guarding, ...]

    def __init__(self, name: str | None, members: tuple[Guarding, ...]) -> None:
        super().__init__(name)
        set_once(self, "policies", members)
        self._register()

    def stats(self) -> tuple[object, ...]:
        """A snapshot of each policy, outermost first; of a pipeline inside, a tuple again."""
        return tuple(member.stats() for member in self.policies if isinstance(member, Policy))

    def _reset(self) -> None:
        """See `PolicyBase._reset`: its policies are listed themselves."""

    def _default_name(self, name: str) -> None:
        """Take *name*, as its policies do, if there is none yet."""
        super()._default_name(name)
        for member in self.policies:
            member._default_name(name)

    def _wrap_sync(self, fn: AnyFunction) -> AnyFunction:
        return self._stack(fn)

    def _wrap_async(self, fn: AnyFunction) -> AnyFunction:
        return self._stack(fn)

    def _stack(self, fn: AnyFunction) -> AnyFunction:
        for member in reversed(self.policies):
            fn = bare_wrapper(member, fn)
        return fn

    def __repr__(self) -> str:
        return f"pipeline({', '.join(repr(member) for member in self.policies)})"


@final
class WideningPipeline(Widening[T_co], Pipeline):
    """A pipeline with a fallback or a cache in it: *T_co* is what else a call may return."""


@overload
def pipeline(  # type: ignore[overload-overlap]  # the second, of plain policies, is the first
    *policies: Policy, name: str | None = None
) -> Pipeline: ...
@overload
def pipeline(*policies: Policy | Widening[T], name: str | None = None) -> WideningPipeline[T]: ...
def pipeline(*policies: Policy, name: str | None = None) -> Pipeline:  # type: ignore[misc]  # what widens is one, but for its types
    """Compose policies: the first is outermost, exactly as decorators stacked from top to bottom.

    One object for many functions, which can stand in another pipeline. It costs no more
    than the stacked decorators. With a `fallback` in it, or a `cache` with ``exists``, a call may
    return what these give too, and its type says so.

    Args:
        policies: at least one, such as ``retry(...)``, ``breaker(...)``, ``timeout(...)``.
        name: what metrics call it; else the name of the first function it decorates.

    Raises:
        TypeError: there is none, or one that is no policy.
    """
    if not policies:
        raise TypeError("pipeline() needs at least one policy")
    members: list[Guarding] = []
    for policy in policies:
        if not (isinstance(policy, Policy) and hasattr(policy, "_wrap_async")) or isinstance(
            policy, type
        ):
            instead = ": write it with parentheses and its arguments" if callable(policy) else ""
            instead = f': write name="{policy}"' if isinstance(policy, str) else instead
            raise TypeError(f"pipeline() takes policies, not {policy!r}{instead}")
        members.append(cast("Guarding", policy))
    widens = any(isinstance(member, Widening) for member in members)
    kind = WideningPipeline[Any] if widens else Pipeline
    return kind(check_name("name", name, instead="pipeline(...)"), tuple(members))
