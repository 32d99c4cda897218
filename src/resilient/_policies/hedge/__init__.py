"""The hedge's shell: `shell` the policy, `race` the tasks of one call, `make` the factory."""

from resilient._policies.hedge.make import hedge
from resilient._policies.hedge.shell import Hedge, HedgeStats

__all__ = ["Hedge", "HedgeStats", "hedge"]
