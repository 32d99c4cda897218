"""The parts of `.ci/run`: as many at a time as there are processors, each with a log of its own.

`.ci/run` runs all of them; `.ci/run docs mutants` those that are named, and what they come after.
A log is printed when its part fails; then the parts that still run are ended, by their group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".ci" / "logs"
PIP = "-m pip install --progress-bar off --disable-pip-version-check -e '.[test]'"


@dataclass(frozen=True)
class Part:
    """A shell script; *after* must have ended well before it, and it is *alone* if it needs all."""

    name: str
    script: str
    after: str = ""
    alone: bool = False


def python(version: str) -> str:
    """A CPython of this minor version, or nothing."""
    found = subprocess.run(
        [ROOT / ".ci/python", version], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


NEEDS_NEWEST = (
    "tests/drill tests/docs tests/typing tests/test_benchmarks.py tests/policies/test_tenacity.py"
)
"""What the oldest dependencies can't do: so test_tenacity lists every strategy of the newest."""


def tests_on(version: str, paths: str) -> Part:
    """The tests on another Python, where the rules of tests/core are the same: they are pure."""
    found = python(version)
    if not found:
        return Part(f"tests-{version}", f"echo 'no CPython {version} here: its tests are left out'")
    return Part(
        f"tests-{version}",
        f"""
        {found} -m venv .venv-{version}
        .venv-{version}/bin/python {PIP}
        .venv-{version}/bin/python -m pytest -q -p no:cacheprovider \\
            --ignore=tests/core --ignore=tests/test_outcomes.py {paths}
        """,
    )


def parts() -> list[Part]:
    """In the order in which they begin: what takes long, or is waited for, first."""
    oldest = python("3.11") or sys.executable
    return [
        Part("tests", "make test", alone=True),
        Part("packages", "make .venv/installed-test .venv/installed-dev .venv/installed-bench"),
        tests_on("3.12", "tests"),
        Part(
            "tests-oldest",  # on 3.11 with the oldest dependencies that pyproject.toml allows
            f"""
            {oldest} -m venv .venv-oldest
            {oldest} -m tests.oldest >.venv-oldest/bounds.txt
            .venv-oldest/bin/python {PIP} -c .venv-oldest/bounds.txt
            .venv-oldest/bin/python -m pytest -q -p no:cacheprovider \\
                --ignore=tests/core --ignore=tests/test_outcomes.py \\
                {" ".join(f"--ignore={path}" for path in NEEDS_NEWEST.split())}
            """,
        ),
        tests_on("3.11", NEEDS_NEWEST),  # and these with the newest
        Part("branches", "make branches WORKERS=0", after="packages"),
        Part("mutants", "make mutants", after="packages"),
        Part(
            "drills",
            ".venv/bin/python -m pytest -q -p no:cacheprovider --every-drill "
            "tests/drill/test_scenarios.py tests/drill/test_target.py tests/drill/test_session.py "
            "tests/issues/test_an_interrupt_hangs_nobody.py "
            "tests/integrations/test_three_processes.py",
            after="packages",
        ),
        Part(
            "attacks",
            ".venv/bin/python -m pytest -q -p no:cacheprovider --attacks 10 tests/attacks "
            "tests/integrations/test_httpx_real.py::test_calls_cancelled_at_random_leave_nothing "
            "tests/integrations/test_aiohttp_real.py::test_calls_cancelled_at_random_leave_nothing "
            "tests/integrations/test_grpc.py::test_calls_cancelled_at_random_leave_nothing",
            after="packages",
        ),
        Part("benchmarks", "make bench BENCH=--short", after="packages"),
        Part("types", "make types", after="packages"),
        Part(
            "optional",  # the tests that `make test` skips, since they need a checker or a peer
            ".venv/bin/python -m pytest -q -p no:cacheprovider tests/typing "
            "tests/issues/test_record_is_typed.py tests/issues/test_peers_read_virtual_time.py",
            after="packages",
        ),
        Part("outcomes", "make outcomes OUTCOMES='--short --only down'", after="packages"),
        Part("docs", "make docs", after="packages"),
        Part("matrix", "make matrix", after="packages"),
        Part("lint", "make lint", after="packages"),
    ]


class Running:
    """A part that runs, in a session of its own."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.log = LOGS / f"{part.name}.log"
        self._began = time.monotonic()
        output: BinaryIO | None = None if part.alone else self.log.open("wb")
        self.process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", part.script],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output and subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def took(self) -> str:
        """How long it has run."""
        return f"{time.monotonic() - self._began:.0f} s"

    def closing_line(self) -> str:
        """The last line of its log: of tests, how many passed."""
        lines = [] if self.part.alone else self.log.read_text(errors="replace").splitlines()
        return next((line[:100] for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """End it and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def chosen(names: list[str]) -> list[Part]:
    """The parts with these names, and those that they come after; all without names."""
    every = parts()
    if unknown := set(names) - {part.name for part in every}:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}")
    wanted = {*names, *(part.after for part in every if part.name in names)}
    return [part for part in every if not names or part.name in wanted]


def play(todo: list[Part], running: list[Running]) -> str | None:
    """Run them all; the name of the one that failed, if one did."""
    done, cores, began = set[str](), os.cpu_count() or 1, time.monotonic()
    names = {part.name for part in todo}
    while todo or running:
        for part in list(todo):
            free = not running if part.alone else len(running) < cores
            if not free or any(one.part.alone for one in running):
                break
            if part.after in names and part.after not in done:
                continue
            todo.remove(part)
            print(f"\n== {part.name} ({time.monotonic() - began:.0f} s)", flush=True)
            running.append(Running(part))
        for one in list(running):
            code = one.process.poll()
            if code is None:
                continue
            if code:
                print(one.log.read_text(errors="replace") if not one.part.alone else "")
                print(f"== {one.part.name} FAILED after {one.took()}, with exit code {code}")
                return one.part.name
            running.remove(one)
            done.add(one.part.name)
            print(f"-- {one.part.name}: ok in {one.took()}  {one.closing_line()}", flush=True)
        time.sleep(0.1)
    print(f"\n== done ({time.monotonic() - began:.0f} s)")
    return None


def main() -> int:
    """0 if every part ended well."""
    LOGS.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    running: list[Running] = []
    try:
        return int(play(chosen(sys.argv[1:]), running) is not None)
    finally:
        for one in running:
            one.end()


if __name__ == "__main__":
    sys.exit(main())
