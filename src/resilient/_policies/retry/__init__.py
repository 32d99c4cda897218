"""The retry's shell.

`shell` is the policy, `run` one call of it, `attempts` its loop form, `strategies` what it
shares with tenacity, `budget` what all calls together may spend.
"""

from resilient._policies.retry.budget import RetryBudget
from resilient._policies.retry.make import retry
from resilient._policies.retry.shell import Retry, RetryStats

__all__ = ["Retry", "RetryBudget", "RetryStats", "retry"]
