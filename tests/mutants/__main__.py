"""Break each rule once, and see its test fail: `python -m tests.mutants [rule or test ...]`.

The list is in the ``*.toml`` files here. A mutant is one replacement in one file of a shell or a
seam; it is made in a copy of the package, and dies if the test that names the rule fails with it.
The rules of `_core` are left to mutmut, which changes every line of them: `make mutate`. Only the
mutants of ``kit.toml``, which try the kit for our users' tests, are made there too.

To start Python and import pytest takes longer than most of the tests. So this process imports what
they need, but nothing of ours, and forks for each mutant.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rules import RULES

ROOT = Path(__file__).parent.parent.parent
CORE_RULES = {"B1", "B4", "B6", "B7", "B10", "B11", "B12", "B13", "D8", "L9", "L10"}
"""Those that `_core` holds alone: mutmut breaks them."""
LONGEST = 20.0
"""Seconds; a mutant that takes longer hangs where the rule says that it ends, and so dies."""
WARM = (
    "anyio._backends._asyncio", "anyio._backends._trio", "hypothesis.stateful", "prometheus_client",
    "tenacity", "trio.testing", "uvloop",
)  # fmt: skip
QUIET = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Modules imported above are not rewritten, and filterwarnings would make that an error."""


@dataclass(frozen=True)
class Mutant:
    """One replacement that breaks one rule."""

    rule: str
    file: str
    old: str
    new: str
    test: str

    def stale(self) -> str | None:
        """What is wrong with it, if it can't be made."""
        text = (ROOT / self.file).read_text()
        if (times := text.count(self.old)) != 1:
            return f"is stale: the text to replace occurs {times} times in {self.file}"
        try:
            compile(text.replace(self.old, self.new), self.file, "exec")
        except SyntaxError as error:
            return f"is stale: line {error.lineno} of {self.file} would not be Python"
        return None

    def make(self, source: Path) -> None:
        """Break the rule in the copy of ``src`` that is *source*."""
        file = source.parent / self.file
        file.write_text(file.read_text().replace(self.old, self.new))


class Trial:
    """One mutant in a process of its own."""

    def __init__(self, mutant: Mutant, clean: Path, folder: Path) -> None:
        self.mutant = mutant
        self._said, source = folder / "said.txt", folder / "src"
        shutil.copytree(clean, source)
        mutant.make(source)
        self._until = time.monotonic() + LONGEST
        self.pid = os.fork() or self._play(source)

    def _play(self, source: Path) -> int:
        """Run the test, in the child."""
        code = 99
        with contextlib.suppress(BaseException):
            os.setsid()  # so that it can be ended with all that it starts
            said = os.open(self._said, os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.path.insert(0, str(source))
            os.environ.update(PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1")
            code = int(pytest.main([*QUIET, self.mutant.test]))
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def verdict(self) -> str | None:
        """``dies``, or what is wrong; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid and time.monotonic() < self._until:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if not pid:
            os.waitpid(self.pid, 0)
            return "dies"
        code = os.waitstatus_to_exitcode(status)
        told = self._said.read_text(errors="replace")[-1600:] if self._said.exists() else ""
        return {0: "LIVES", 1: "dies"}.get(code, f"was not tested: exit code {code}\n{told}")


def read() -> list[Mutant]:
    """Every mutant of the list."""
    files = sorted(Path(__file__).parent.glob("*.toml"))
    return [
        Mutant(**entry) for file in files for entry in tomllib.loads(file.read_text())["mutant"]
    ]


def verdicts(mutants: list[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Try them, as many at a time as there are processors; each verdict as it comes."""
    for module in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    assert "resilient" not in sys.modules, "it must be imported anew for each mutant"
    with tempfile.TemporaryDirectory() as name:
        folder, todo, trials = Path(name), list(mutants), list[Trial]()
        clean = folder / "src"
        shutil.copytree(ROOT / "src", clean, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(clean, quiet=2)
        try:
            while todo or trials:
                while todo and len(trials) < (os.cpu_count() or 1):
                    mutant = todo.pop(0)
                    if stale := mutant.stale():
                        yield mutant, stale
                    else:
                        trials.append(Trial(mutant, clean, Path(tempfile.mkdtemp(dir=folder))))
                for trial in list(trials):
                    if verdict := trial.verdict():
                        trials.remove(trial)
                        yield trial.mutant, verdict
                time.sleep(0.01)
        finally:
            for trial in trials:
                os.killpg(trial.pid, signal.SIGKILL)


def main(chosen: list[str]) -> int:
    """Try them; 0 if every one dies and every rule has one, or is the core's."""
    mutants = [one for one in read() if not chosen or one.rule in chosen or one.test in chosen]
    began, dead = time.monotonic(), 0
    for mutant, verdict in verdicts(mutants):
        print(f"{mutant.rule:4} {verdict:6} {mutant.test}", flush=True)
        dead += verdict == "dies"
    broken = {one.rule for one in mutants} | CORE_RULES
    missing = [] if chosen else [rule for rule in RULES if rule not in broken]
    if missing:
        print("without a mutant:", *missing)
    print(f"{dead} of {len(mutants)} mutants die ({time.monotonic() - began:.0f} s)")
    return int(dead < len(mutants) or bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
