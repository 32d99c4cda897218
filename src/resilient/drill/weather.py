"""What a gate of the fault proxy does with the bytes that come to it."""

from __future__ import annotations

import enum


class Weather(enum.Enum):
    """The state of a network, and of the service behind it, as a client meets it.

    CLEAR lets everything through.
    SILENT accepts and swallows every byte, of connections that are open as well; one that
    lost a byte stays silent for ever.
    REFUSING resets every connection, those that are open at once.
    STALLED accepts and holds every byte back until the weather changes.
    SLOW holds back what the service says.
    FLAKY gives a share of the answers itself.
    """

    CLEAR = "clear"
    SILENT = "silent"
    REFUSING = "refusing"
    STALLED = "stalled"
    SLOW = "slow"
    FLAKY = "flaky"
