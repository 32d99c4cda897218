"""What an import costs: seconds of a fresh interpreter, bytecode compiled before."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter

OURS = "import resilient"
PARTS = "import anyio, tenacity"


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of the whole process, for each statement and round."""
    times: dict[str, list[float]] = {"pass": [], PARTS: [], OURS: []}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for statement, measured in times.items():
                began = perf_counter()
                subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
                if number:  # the first compiles
                    measured.append(perf_counter() - began)
    return times
