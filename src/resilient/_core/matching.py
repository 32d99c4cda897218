"""Which errors count: the rules of ``on`` and ``ignore``.

1. A specification is an exception type, a predicate, or a tuple of any of these;
   a tuple matches if one member does.
2. Groups are judged leaf by leaf: a group is a failure if one leaf is, ignored if
   every leaf is, and otherwise says that the dependency answered. A specification
   that names a group type sees the group itself, too.
3. ``ignore`` is asked before ``on``; what the caller of this module says of a
   leaf comes first where it says "ignored", and before ``on`` where it says "failure".
4. A predicate that raises, or returns an awaitable, makes a failure, and is logged once. (For a
   retry, which may repeat only what is known to be safe, it makes an error that is not repeated.)
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator

from resilient._core.checks import check_sync, refuse, refuse_type
from resilient._core.functions import at_once
from resilient._core.once import Once


class Verdict(enum.Enum):
    """How a call ended, for the one who judges its dependency."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"  # rejected, interrupted: says nothing of the dependency
    CANCELLED = "cancelled"  # by whoever called: says nothing but how long it had lasted


class BrokenPredicateError(Exception):
    """A predicate raised: ``args`` are the predicate and its error."""


class Matcher:
    """One specification, taken apart once."""

    __slots__ = ("groups", "predicates", "types")

    def __init__(self, name: str, spec: object) -> None:
        members = list(_flatten(spec))
        for member in members:
            _check(name, member)
        types = [member for member in members if isinstance(member, type)]
        self.types = tuple(types)
        self.groups = tuple(kind for kind in types if issubclass(kind, BaseExceptionGroup))
        self.predicates = tuple(member for member in members if not isinstance(member, type))

    def leaf(self, error: BaseException) -> bool:
        """Whether it matches *error*, which is no group."""
        return isinstance(error, self.types) or any(_ask(ask, error) for ask in self.predicates)

    def may_share(self, other: Matcher) -> bool:
        """Whether an error may match both: types that are unrelated share none."""
        if self.predicates or other.predicates:
            return True
        pairs = itertools.product(self.types, other.types)
        return any(issubclass(one, two) or issubclass(two, one) for one, two in pairs)

    def group(self, error: BaseException) -> bool:
        """Whether it names the very type of the group *error*."""
        return isinstance(error, self.groups)


class Judge:
    """The verdict on an error, by ``on``, ``ignore`` and what its caller says of a leaf.

    Args:
        on: which errors are failures.
        ignore: which say nothing.
        classify_first: what the caller says of a leaf before ``on`` and ``ignore`` are asked.
        classified_types: the only types of which it says anything.
        log: called once with each predicate that raises, and its error.
        on_predicate_error: the verdict if a predicate raises.
    """

    __slots__ = (
        "_classify_first", "_ignore", "_log", "_on", "_on_predicate_error", "_to_log",
        "certain_failures", "doubtful",
    )  # fmt: skip

    def __init__(
        self,
        on: object,
        ignore: object = (),
        *,
        classify_first: Callable[[BaseException], Verdict | None],
        classified_types: tuple[type[BaseException], ...] = (BaseException,),
        log: Callable[[object, Exception], None],
        on_predicate_error: Verdict = Verdict.FAILURE,
    ) -> None:
        self._on_predicate_error = on_predicate_error
        self._on, self._ignore = Matcher("on", on), Matcher("ignore", ignore)
        self._classify_first = classify_first
        doubtful: tuple[type, ...] = (BaseExceptionGroup, *classified_types)
        self.doubtful = doubtful
        ignores = self._ignore.types or self._ignore.predicates
        self.certain_failures = tuple(
            kind for kind in self._on.types if not ignores and not issubclass(kind, doubtful)
        )
        self._log, self._to_log = log, Once()

    def error(self, error: Exception) -> Verdict:
        """The verdict on a call that raised *error*."""
        if isinstance(error, self.certain_failures) and not isinstance(error, self.doubtful):
            return Verdict.FAILURE  # as below, but at once
        try:
            if not isinstance(error, BaseExceptionGroup):
                return self._leaf(error)
            if self._ignore.group(error):
                return Verdict.IGNORED
            verdicts = {self._leaf(leaf) for leaf in leaves(error)}
        except BrokenPredicateError as broken:
            return self._predicate_failed(*broken.args)
        if verdicts == {Verdict.IGNORED}:
            return Verdict.IGNORED
        named = self._on.group(error)
        return Verdict.FAILURE if named or Verdict.FAILURE in verdicts else Verdict.SUCCESS

    def may_share(self, other: Judge) -> bool:
        """Whether an error may be a failure for both."""
        return self._on.may_share(other._on)

    def result(self, unwanted: Callable[[object], object], result: object) -> Verdict:
        """The verdict on a call that returned *result*."""
        try:
            return Verdict.FAILURE if _ask(unwanted, result) else Verdict.SUCCESS
        except BrokenPredicateError as broken:
            return self._predicate_failed(*broken.args)

    def _leaf(self, error: BaseException) -> Verdict:
        first = self._classify_first(error)
        if first is Verdict.IGNORED or self._ignore.leaf(error):
            return Verdict.IGNORED
        if first is Verdict.FAILURE or self._on.leaf(error):
            return Verdict.FAILURE
        return Verdict.SUCCESS

    def _predicate_failed(self, predicate: object, fault: Exception) -> Verdict:
        if self._to_log(predicate):
            self._log(predicate, fault)
        return self._on_predicate_error


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors of a group that are no groups themselves, however deep they are in it."""
    inside = [iter(group.exceptions)]
    while inside:
        for error in inside[-1]:
            if isinstance(error, BaseExceptionGroup):
                inside.append(iter(error.exceptions))
                break
            yield error
        else:
            inside.pop()


def each(error: BaseException) -> Iterator[BaseException]:
    """The leaves of a group; of any other error itself."""
    return leaves(error) if isinstance(error, BaseExceptionGroup) else iter((error,))


def _ask(predicate: Callable[..., object], value: object) -> bool:
    try:
        answer = predicate(value)
        return answer if type(answer) is bool else bool(at_once(answer))
    except Exception as fault:
        raise BrokenPredicateError(predicate, fault) from fault


def _flatten(spec: object) -> Iterator[Callable[..., object]]:
    if isinstance(spec, tuple):
        for member in spec:
            yield from _flatten(member)
    else:
        yield spec  # type: ignore[misc]  # _check refuses what is not callable


def _check(name: str, member: object) -> None:
    allowed = "an exception type, a predicate, or a tuple of these"
    if not callable(member) or (isinstance(member, type) and not issubclass(member, BaseException)):
        refuse_type(name, member, allowed)
    if isinstance(member, type) and not issubclass(member, (Exception, BaseExceptionGroup)):
        refuse(name, member, f"{allowed}, of Exceptions: cancellation and exits are never counted")
    if not isinstance(member, type):
        check_sync(name, member, allowed)
