"""Deadlines: `chain` says which limit counts, `timers` keeps those of one event loop."""

from resilient._core.deadline.chain import ALIVE, UNBEGUN, Life, Limit
from resilient._core.deadline.timers import FEW, Entry, TimerQueue

__all__ = ["ALIVE", "FEW", "UNBEGUN", "Entry", "Life", "Limit", "TimerQueue"]
