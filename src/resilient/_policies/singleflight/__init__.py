"""Single-flight's shell.

`shell` the policy, `worlds` how asyncio, trio and threads run and wait.
"""

from resilient._policies.singleflight.make import singleflight
from resilient._policies.singleflight.shell import SingleFlight, SingleFlightStats

__all__ = ["SingleFlight", "SingleFlightStats", "singleflight"]
