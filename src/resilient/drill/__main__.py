"""The command ``resilient``, and ``python -m resilient.drill``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from resilient.drill.arguments import parse
from resilient.drill.plan import Plan

CANNOT: Final = 2
INTERRUPTED: Final = 130
NEEDED: Final = ("httpx2", "rich", "starlette", "uvicorn")
USAGE: Final = """\
usage: resilient drill [SCENARIO] [options]

Break a real service on schedule, and see which client gets through.
More: resilient drill --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``resilient``; its one word so far is ``drill``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["drill"]:
        return drill(words[1:])
    asked = words[:1] in (["-h"], ["--help"])
    (sys.stdout if asked else sys.stderr).write(USAGE)
    return 0 if asked else CANNOT


def drill(argv: Sequence[str] | None = None) -> int:
    """``resilient drill``: 0 if each objective was met, 1 if not, 2 if it could not be run."""
    try:
        plan = parse(argv)
        if obstacle := cannot(plan):
            sys.stderr.write(f"resilient drill: {obstacle}\n")
            return CANNOT
        from resilient.drill.session import run  # noqa: PLC0415  # needs the extra

        return run(plan)
    except KeyboardInterrupt:
        return INTERRUPTED


def cannot(plan: Plan) -> str | None:
    """Why there can be no drill here, and what to do; ``None`` if there can."""
    if os.name != "posix":
        return "it stops and kills processes by POSIX signals; run it on Linux or macOS"
    wanted = NEEDED if plan.metrics is None else (*NEEDED, "prometheus_client")
    if lacking := [name for name in wanted if not _importable(name)]:
        return f"{', '.join(lacking)} not installed; pip install 'resilient-py[drill]'"
    return None


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(drill())
