"""The rules of lint, asked one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient._policies.common.policy import Policy
from resilient._policies.lint import figures
from resilient._policies.lint.findings import Finding
from resilient._policies.lint.orders import wrong_orders
from resilient._policies.lint.stack import stack_of


def lint(policy_or_function: Policy | Callable[..., Any], /) -> list[Finding]:
    """Find what contradicts itself in a stack; prints nothing.

    For a test of your own: ``assert lint(fetch_price) == []``. Wrong orders come first, then
    limits, waits and budgets that contradict each other.

    Args:
        policy_or_function: a policy, such as a `pipeline`, or a function decorated by some, also
            with decorators of others between that use `functools.wraps`. What the function calls
            is not looked at, nor are open `deadline` blocks.

    Of a `Protection` only the figures that were given to `protect` are judged: its order and its
    budgets are explained in the documentation, "The recommended stack".

    Raises:
        TypeError: it is neither.
        ValueError: it wraps itself, by a ``__wrapped__`` that leads back to it.
    """
    stack = stack_of(policy_or_function)
    return [found for rule in (wrong_orders, *figures.RULES) for found in rule(stack)]
