"""The one command: see README.md."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

if not __package__:  # started as `python examples/three_services`
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.three_services import figures, story


def main() -> int:
    """0 if all went well, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.three_services")
    parser.add_argument("--figures", action="store_true", help="measure, in place of the story")
    parser.add_argument("--seconds", type=float, default=20.0, help="so long the load of figures")
    words = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    try:
        asyncio.run(figures.show(words.seconds) if words.figures else story.tell())
    except KeyboardInterrupt:
        print("\nAll three have ended.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
