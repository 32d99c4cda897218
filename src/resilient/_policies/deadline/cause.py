"""Who is behind a cancellation: a deadline of ours alone, or somebody else as well."""

from __future__ import annotations

from itertools import groupby

from resilient._policies.deadline.block import Deadline, ambient
from resilient._runtime import loops


def cut_by(error: BaseException) -> Deadline | None:
    """The open deadline, of this task or of an ancestor, that alone made the cancellation *error*.

    ``None`` if *error* is no cancellation, if no deadline around has fired, or if somebody
    else cancels as well: then nothing can be concluded from it.
    """
    innermost = ambient.get()
    if innermost is None or not loops.is_cancellation(error):
        return None
    fired = list(innermost._fired_scopes())
    if not fired:
        return None
    if (task := loops.trio_task()) is not None:
        scopes = [one._scope for one in fired if one._scope is not None]
        alone = bool(scopes) and not loops.trio_others_cancelled(
            task, scopes, set(innermost._scopes())
        )
    else:
        alone = _alone_on_asyncio(fired)
    return fired[-1] if alone else None


def _alone_on_asyncio(fired: list[Deadline]) -> bool:
    """Whether every cancellation that was asked of the tasks in question is one of ours. A child
    task has none of its own: its task group, or whoever awaits it, passed on one.
    """
    if loops.running_loop() is None or (here := loops.current_task()) is None:
        return False
    if fired[0]._task is not here and here.cancelling() != 1:
        return False
    for task, members in groupby(fired, key=lambda one: one._task):
        ours = list(members)
        if task is None or task.cancelling() != ours[-1]._cancels + len(ours):
            return False
    return True
