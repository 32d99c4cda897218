"""The factory of single-flights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient._core.checks import check_name, check_sync
from resilient._policies.singleflight.shell import SingleFlight
from resilient._runtime.keying import Key, check_key


def singleflight(
    name: str | None = None, *, key: Key | None = None, copy: Callable[[Any], Any] | None = None
) -> SingleFlight:
    """Let callers who ask for the same thing at the same time share one run of it.

    All of them get the same value, or the same error; nothing is remembered afterwards. A caller
    that is cancelled, or whose deadline ends, leaves alone, the first one too: the run goes on for
    the others, and is cancelled when nobody waits any more. The run sees a copy of the first
    caller's context, and as its deadline the latest of its waiters'.

    In plain threads the first caller runs it, and can't leave before its end. Threads have their
    own flights, and so has each event loop. A sync function in a thread with a running event loop
    does not wait for another thread's run: it is `Rejected` with the reason ``"would_block"``.

    Args:
        name: what errors, events and metrics call it; else that of the first function it decorates.
        key: a function of the call's arguments, or the name of a parameter: what says which calls
            of one function are the same; two functions never share a run. Otherwise the function
            and its arguments as written, with their types. `SingleFlight.do` takes a key of its
            own, and goes by that alone.
        copy: a function applied to the result for every caller but the first, where callers change
            what they get.

    Raises:
        TypeError: from a call: its key can't be hashed.
        RuntimeError: from a call: a run asks for its own key, or for that of one that waits for it.

    Source:
        ``golang.org/x/sync/singleflight``; that a waiter leaves alone is after
        ``janos/singleflight``.
    """
    return SingleFlight(
        check_name("name", name, instead="@singleflight()"),
        check_key(key),
        check_sync("copy", copy),
    )
