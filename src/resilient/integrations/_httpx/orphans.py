"""What a pool of httpcore leaves behind when a request of it is cancelled.

httpcore up to 1.0.9, and httpcore2 in its first versions, keep a connection for ever that was made
for a request, if that was cancelled before it began to connect: the pool counts it, and once there
are as many as it may have, every request waits for a place that never comes. A connection in use
belongs to a request of the pool's list; one that is neither idle nor anybody's is an orphan.
"""

from __future__ import annotations

from typing import Any


async def close_orphans(transport: Any) -> None:
    """Take what is left behind out of the pool of *transport*, if it has one as we know it."""
    pool = getattr(transport, "_pool", None)
    connections, requests = getattr(pool, "_connections", None), getattr(pool, "_requests", None)
    if not isinstance(connections, list) or not isinstance(requests, list):
        return
    used = {id(getattr(request, "connection", None)) for request in requests}
    orphans = [one for one in connections if id(one) not in used and not one.is_idle()]
    for one in orphans:
        connections.remove(one)
    for one in orphans:
        await one.aclose()
