"""For tests: virtual time, a fresh start for every policy, a record of events.

The pytest plugin that comes with the package gives a test that takes ``virtual_time`` a
`VirtualTime`, with every policy fresh.
"""

from resilient.testing.recorders import fresh, record
from resilient.testing.virtual import VirtualTime, virtual_time

__all__ = ["VirtualTime", "fresh", "record", "virtual_time"]
