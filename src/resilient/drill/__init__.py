"""`resilient drill`: break a real service, and see who gets through.

The drill starts a real HTTP service behind a TCP fault proxy, sends it traffic
that does not wait for answers, breaks it on schedule and gives a verdict. Three
clients do the same work at the same time, each on a service and a proxy of its own:

* **bare**: httpx2 as it comes,
* **usual**: tenacity around an ``asyncio.timeout``,
* **resilient**: a ``deadline`` around a pipeline of retry, breaker and timeout.

The processes, of which each client has three to itself::

    conductor ──┬── 3 x service    what gets broken
                ├── 3 x proxy      counts requests, swallows, refuses, stalls
                └── 3 x traffic    makes the calls, by schedule, and keeps a record of each

So a client that suffers does not slow the measurement of another. The conductor talks to
its children over their standard input and output; a child ends when its input does.
"""
