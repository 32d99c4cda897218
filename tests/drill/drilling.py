"""Real drills, as a user starts them, and what remains of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[2] / "src"
SHORT = ("--seconds", "5", "--rate", "40", "--deadline", "1", "--seed", "1")
"""Long enough to break, notice and come back; gentle enough for a busy machine."""
TOO_LONG = 90.0


@dataclass(frozen=True)
class Drilled:
    """A drill that is over."""

    code: int
    out: str
    err: str
    result: Any

    def client(self, name: str, run: int = 0) -> Any:
        """What the JSON says of one client."""
        return self.result["runs"][run]["clients"][name]

    def verdicts(self, name: str = "resilient") -> dict[str, bool]:
        """Which objectives were met."""
        return {each["objective"]: each["passed"] for each in self.client(name)["verdicts"]}

    @property
    def doubtful(self) -> bool:
        """Whether the drill itself says that this machine was too busy for its figures."""
        return bool(self.result and self.result["runs"][0]["remarks"])

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def start(*words: str) -> subprocess.Popen[str]:
    """Start a drill in a session of its own, so that its signals are nobody else's."""
    return subprocess.Popen(
        [sys.executable, "-m", "resilient.drill", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip


def drill(*words: str) -> Drilled:
    """Run a drill to its end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.json")
        with start(*words, "--json", str(file)) as running:
            try:
                out, err = running.communicate(timeout=TOO_LONG)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
        result = json.loads(file.read_text()) if file.exists() else None
    return Drilled(running.returncode, out, err, result)


def together(*command_lines: tuple[str, ...]) -> list[Drilled]:
    """Run drills at the same time."""
    with ThreadPoolExecutor(len(command_lines)) as pool:
        return list(pool.map(lambda words: drill(*words), command_lines))


def passing(words: tuple[str, ...], done: Drilled) -> Drilled:
    """*done*, or another run of its own if it failed on a machine that was too busy."""
    return drill(*words) if done.code == 1 and done.doubtful else done


def children(parent: int) -> list[int]:
    """The processes that *parent* has started."""
    return [pid for pid, (owner, _) in processes().items() if owner == parent]


def state(pid: int) -> str:
    """What a process does, as one letter: R, S, T (stopped), Z (dead, not yet buried), - (gone)."""
    return processes().get(pid, (0, "-"))[1][0]


def processes() -> dict[int, tuple[int, str]]:
    """Each process of this machine: its parent and its state."""
    if Path("/proc/self/stat").exists():
        return dict(filter(None, map(_stat, Path("/proc").glob("[0-9]*"))))
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True
    )
    lines = (line.split() for line in listed.stdout.splitlines())
    return {int(pid): (int(parent), state) for pid, parent, state in lines}


def _stat(folder: Path) -> tuple[int, tuple[int, str]] | None:
    try:
        state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(folder.name), (int(parent), state)
