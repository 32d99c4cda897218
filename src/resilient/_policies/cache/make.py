"""The factory of caches: what may be asked for."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Never, Protocol, cast, overload

from resilient._core.cache import CacheConfig
from resilient._core.checks import (
    AT_ONCE,
    Seconds,
    check_callable,
    check_int,
    check_name,
    check_number,
    check_seconds,
    check_sync,
    check_takes,
    refuse,
    refuse_type,
)
from resilient._core.functions import is_coroutine_function, is_generator_function
from resilient._policies.cache.invalidation import Invalidation
from resilient._policies.cache.shell import Cache
from resilient._policies.cache.store import Settings
from resilient._policies.common.factory import factory
from resilient._runtime.keying import Key, check_key


class Container(Protocol):
    """Something that knows which keys there are, such as a `BloomFilter`."""

    def __contains__(self, key: Any, /) -> bool: ...


Exists = Container | Callable[[Any], object]


@overload
def cache(
    ttl: Seconds | Callable[[Any], Seconds],
    *,
    exists: Exists,
    max_size: int = 1024,
    negative_ttl: Seconds | None = None,
    negative: Callable[[Any], object] | None = None,
    stale: Seconds = 0.0,
    jitter: float = 0.05,
    refresh_ahead: Seconds | None = None,
    patience: Seconds | None = None,
    copy: Callable[[Any], Any] | None = None,
    invalidation: Invalidation | None = None,
    key: Key | None = None,
    rng: random.Random | None = None,
    name: str | None = None,
) -> Cache[None]: ...
@overload
def cache(
    ttl: Seconds | Callable[[Any], Seconds],
    *,
    exists: None = None,
    max_size: int = 1024,
    negative_ttl: Seconds | None = None,
    negative: Callable[[Any], object] | None = None,
    stale: Seconds = 0.0,
    jitter: float = 0.05,
    refresh_ahead: Seconds | None = None,
    patience: Seconds | None = None,
    copy: Callable[[Any], Any] | None = None,
    invalidation: Invalidation | None = None,
    key: Key | None = None,
    rng: random.Random | None = None,
    name: str | None = None,
) -> Cache[Never]: ...
@factory("cache(60)")
def cache(
    ttl: Seconds | Callable[[Any], Seconds],
    *,
    max_size: int = 1024,
    negative_ttl: Seconds | None = None,
    negative: Callable[[Any], object] | None = None,
    stale: Seconds = 0.0,
    jitter: float = 0.05,
    refresh_ahead: Seconds | None = None,
    patience: Seconds | None = None,
    copy: Callable[[Any], Any] | None = None,
    exists: Exists | None = None,
    invalidation: Invalidation | None = None,
    key: Key | None = None,
    rng: random.Random | None = None,
    name: str | None = None,
) -> Cache[Any]:
    """Remember what a function returned, and let nobody feel when it is time to ask again.

    Callers who miss the same key at the same time share one run, as with a `singleflight`; errors
    are never remembered. The value is the same object for all: return what nobody changes, or give
    *copy*.

    Args:
        ttl: seconds that a value lives, above 0, drawn for each from ``ttl * (1 - jitter)`` to
            ``ttl * (1 + jitter)``, so that what came in together does not end together. Or a
            function of the result that gives them: the ``expires_in`` of a token, say. If it gives
            0, the result is not kept, and ends the one that was; likewise if it raises or gives
            what is no lifetime, which is logged once.
        max_size: entries that are kept, at least 1, of all functions together. What has ended, also
            for *stale*, makes room first, then the least recently used.
        negative_ttl: seconds, above 0, for which "there is none" is remembered; without it such a
            result is like any other.
        negative: a predicate on the result that says what that is; otherwise ``None`` is. Only with
            *negative_ttl*.
        stale: seconds past its end, at least 0, for which a value is served if the run fails, or is
            late: if the call has a deadline, when nine tenths of what was left have passed.
        jitter: 0 to less than 1.
        refresh_ahead: seconds before the end, above 0 and less than *ttl*, or at most half of the
            life that a function says, from which on a hit returns the value that is there and
            begins one run in the background, without a deadline: in async code a task, in plain
            threads a short-lived daemon thread. If it fails that is counted, and tried again after
            a tenth of *refresh_ahead*.
        patience: seconds, at least 0, after which the run is late in any case. Only with *stale*.
        copy: a function applied to the result for every caller but the one whose call ran the
            function, where callers change what they get, such as `copy.deepcopy`. What is kept is a
            copy as well. Its error is that caller's alone. If what is to be kept can't be copied,
            that is logged once, and the result is not kept, nor is an older one that was.
        exists: what knows which keys there are, by ``in`` or as a predicate: for a key that it
            denies the answer is ``None``, without a call and without taking room.
        invalidation: a channel over which caches tell each other what to forget, see
            `resilient.integrations.invalidation`.
        key: a function of the call's arguments, or the name of a parameter: what says which calls
            of one function are the same; two functions never get each other's results, and
            `Cache.invalidate` drops a key for all of them. A function that was decorated twice is
            one; a partial, or a lambda made for each call, is a function of its own. Otherwise the
            function and its arguments as written, with their types; then *exists* is asked for the
            single argument.
        rng: a `random.Random` of its own, for the jitter.
        name: what errors, events and metrics call it; else that of the first function it decorates.

    Raises:
        ValueError: an argument is out of its range.
        DeadlineExceeded: from a call, ``started`` false: nothing was left of the deadline.
        TypeError: from a call: its key can't be hashed; or *exists* is to be asked, there is no
            *key*, and the call has not exactly one argument.

    A run that is late goes on for whoever comes next, without a deadline: put a `timeout` inside.
    In plain threads a run is in a short-lived daemon thread where an old value is there and the
    time is limited.

    A predicate that raises is logged once: *exists* then counts as true, *negative* as false.

    Source:
        RFC 5861 (stale-if-error, and stale-while-revalidate for *refresh_ahead*); read-through and
        refresh-ahead as in Oracle Coherence and Caffeine.
    """
    lives = _lives(ttl)
    if negative is not None and negative_ttl is None:
        raise ValueError("negative says what is not there; negative_ttl must say for how long")
    if patience is not None and not stale:
        raise ValueError(
            "patience says when an old value is served; stale must say for how long it may be"
        )
    if rng is not None and not isinstance(rng, random.Random):
        refuse_type("rng", rng, "a random.Random or None")
    config = CacheConfig(
        ttl=lives,
        max_size=check_int("max_size", max_size),
        negative_ttl=None
        if negative_ttl is None
        else check_seconds("negative_ttl", negative_ttl, above=0, finite=False),
        stale=check_seconds("stale", stale, finite=False),
        jitter=check_number("jitter", jitter, least=0, below=1),
        refresh_ahead=_ahead(refresh_ahead, lives),
    )
    settings = Settings(
        config=config,
        ttl=ttl if callable(ttl) else None,
        negative=check_sync("negative", negative),
        patience=math.inf
        if patience is None
        else check_seconds("patience", patience, finite=False),
        copy=check_sync("copy", copy),
        exists=_predicate(exists),
        invalidation=_channel(invalidation),
        key=check_key(key),
        rng=rng,
    )
    return Cache(check_name("name", name, instead="@cache(60)"), settings)


def _lives(ttl: Seconds | Callable[[Any], Seconds]) -> float | None:
    """How long each result lives; ``None`` where a function says it. Refuse one that can't: perhaps
    it is a function to be decorated.
    """
    if not callable(ttl):
        return check_seconds("ttl", ttl, above=0, finite=False)
    parentheses = "(to decorate, write @cache(60), with parentheses)"
    if is_coroutine_function(ttl) or is_generator_function(ttl):
        refuse_type("ttl", ttl, f"seconds, or {AT_ONCE} {parentheses}")
    check_callable("ttl", ttl, "seconds, or a function of the result")
    check_takes("ttl", ttl, 1, f"seconds, or a function of the result {parentheses}")
    return None


def _ahead(refresh_ahead: Seconds | None, lives: float | None) -> float | None:
    """How long before its end a value is refreshed, if ever."""
    if refresh_ahead is None:
        return None
    ahead = check_seconds("refresh_ahead", refresh_ahead, above=0)
    if lives is not None and ahead >= lives:
        refuse("refresh_ahead", refresh_ahead, f"less than ttl, which is {lives:g} s")
    return ahead


def _predicate(exists: object) -> Callable[[Any], object] | None:
    if exists is None:
        return None
    if hasattr(type(exists), "__contains__"):
        return check_sync("exists", cast("Container", exists).__contains__)
    allowed = "a filter, a set, a predicate on the key, or None"
    if hasattr(exists, "__contains__"):  # a class of such, for one of it
        refuse_type("exists", exists, allowed)
    return check_sync("exists", exists, allowed)


def _channel(invalidation: object) -> Invalidation | None:
    if invalidation is None or (
        not isinstance(invalidation, type)
        and callable(getattr(invalidation, "publish", None))
        and callable(getattr(invalidation, "subscribe", None))
    ):
        if invalidation is not None:
            for method in ("publish", "subscribe"):
                check_sync(f"invalidation.{method}", getattr(invalidation, method))
        return cast("Invalidation | None", invalidation)
    refuse_type("invalidation", invalidation, "an object with publish(key) and subscribe(callback)")
