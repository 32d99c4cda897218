"""What lint judges: the policies around a function, read off a policy or a decorated function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import MethodType
from typing import Any, NamedTuple, TypeVar, cast

from resilient._policies.common.keyed import OfKey
from resilient._policies.common.policy import PolicyBase
from resilient._policies.pipeline import Pipeline
from resilient._policies.protect import Protection
from resilient._policies.retry import Retry

Outer = TypeVar("Outer", bound=PolicyBase)
Inner = TypeVar("Inner", bound=PolicyBase)


class Member(NamedTuple):
    """One policy of a stack, and the `Protection` that it is part of."""

    policy: PolicyBase
    protection: Protection | None


class Stack(NamedTuple):
    """The policies around one function, outermost first; ``fn`` is what they are around."""

    members: tuple[Member, ...]
    fn: object | None

    def pairs(self, outer: type[Outer], inner: type[Inner]) -> Iterator[tuple[Outer, Inner]]:
        """Every *outer* one with every *inner* one inside it.

        Those of one `protect` have no quarrel with each other but by the figures they were given.
        """
        for at, one in enumerate(self.members):
            if isinstance(one.policy, outer):
                for other in self.members[at + 1 :]:
                    if isinstance(other.policy, inner):
                        yield one.policy, other.policy

    def together(self, *policies: PolicyBase) -> bool:
        """Whether *policies* are of one `protect`."""
        owners = {member.protection for member in self.members if member.policy in policies}
        return len(owners) == 1 and None not in owners


def repeats(retry: Retry) -> bool:
    """Whether it may call more than once what is inside."""
    return retry._settings.attempts != 1


def stack_of(found: object) -> Stack:
    """The policies of a stack, read off a policy or a function."""
    if isinstance(found, PolicyBase | OfKey):
        return Stack(tuple(_flat(found, None)), None)
    if not callable(found) and not isinstance(found, staticmethod):
        raise TypeError(f"lint() takes a policy or a function, not {found!r}")
    members: list[Member] = []
    seen: list[object] = []
    while True:
        if any(found is one for one in seen):
            raise ValueError(f"lint() finds no end of {found!r}, which wraps itself")
        seen.append(found)
        inner, policy = _one_layer(found)
        if policy is not None:
            members.extend(_flat(policy, None))
        if inner is None:
            return Stack(tuple(members), found)
        found = inner


def _one_layer(fn: object) -> tuple[object | None, object | None]:
    """What *fn* wraps, and the policy by which it does."""
    if isinstance(fn, (MethodType, staticmethod)):
        return fn.__func__, None
    if isinstance(fn, functools.partial):
        return fn.func, None
    own: dict[str, Any] = getattr(fn, "__dict__", {})
    inner = own.get("__wrapped__")
    if inner is not None and own.get("guards") is inner:  # not copied by functools.wraps
        return inner, own.get("policy")
    return (None if inspect.isclass(fn) else inner), None


def _flat(policy: object, protection: Protection | None) -> Iterator[Member]:
    if isinstance(policy, OfKey):
        policy = policy._policy
    if isinstance(policy, Pipeline):
        inside = policy if isinstance(policy, Protection) else protection
        for one in policy.policies:
            yield from _flat(one, inside)
    else:
        yield Member(cast("PolicyBase", policy), protection)
