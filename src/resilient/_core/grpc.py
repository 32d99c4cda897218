"""gRPC, as far as clients and servers of ours must agree on it.

* ``grpc-retry-pushback-ms`` is a whole number of milliseconds. One that is negative, stands there
  twice or can't be read says that there must be no other attempt (gRPC proposal A6).
* A time limit goes on the wire in at most three digits, rounded up, so a server that was told
  1.01 s may have a caller who leaves after 1.001 s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from resilient._core.http import Hint

PUSHBACK: Final = "grpc-retry-pushback-ms"
_MILLISECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_STEPS: Final = ((100.0, 1.0), (10.0, 0.1), (1.0, 0.01))
"""From how many seconds on a limit is rounded up to which."""


def pushback_of(values: Sequence[str]) -> Hint | None:
    """What the trailing metadata asks; ``None`` if nothing stands there."""
    if not values:
        return None
    if len(values) == 1 and _MILLISECONDS.fullmatch(values[0]):
        return Hint(int(values[0]) / 1000, should_retry=True)
    return Hint(None, should_retry=False)


def pushback(retry_after: float | None) -> int:
    """Milliseconds that a caller is asked to wait: a second where nobody knows."""
    return math.ceil(1000 if retry_after is None else min(max(retry_after, 0.0), 1e6) * 1000)


def rounded_up(limit: float) -> float:
    """Seconds by which a *limit* that came over the wire may be more than the caller's."""
    return next((step for least, step in _STEPS if limit >= least), 0.0)
