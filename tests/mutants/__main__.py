"""Break each rule once, and see its test fail: `python -m tests.mutants [rule or test ...]`.

The list is in the ``*.toml`` files here. A mutant is one replacement in one file; it is
made in a copy of the package, and dies if the test that names the rule fails with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.rules import RULES

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One replacement that breaks one rule."""

    rule: str
    file: str
    old: str
    new: str
    test: str

    def verdict(self) -> str:
        """``dies``, or what is wrong."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            return (
                f"is stale: the text to replace occurs {text.count(self.old)} times in {self.file}"
            )
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "src"
            shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
            (Path(folder) / self.file).write_text(text.replace(self.old, self.new))
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                self.test,
            ]
            environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
            try:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return "dies"  # it hangs where the rule says that it ends
        return {0: "LIVES", 1: "dies"}.get(
            done.returncode, f"was not tested:\n{done.stdout[-800:]}{done.stderr[-800:]}"
        )


def read() -> list[Mutant]:
    """Every mutant of the list."""
    files = sorted(Path(__file__).parent.glob("*.toml"))
    return [
        Mutant(**entry) for file in files for entry in tomllib.loads(file.read_text())["mutant"]
    ]


def main(chosen: list[str]) -> int:
    """Try them, two at a time; 0 if every one dies and every rule has one."""
    mutants = [one for one in read() if not chosen or one.rule in chosen or one.test in chosen]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        verdicts = list(pool.map(Mutant.verdict, mutants))
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        print(f"{mutant.rule:4} {verdict:6} {mutant.test}")
    missing = (
        [] if chosen else [rule for rule in RULES if rule not in {one.rule for one in mutants}]
    )
    if missing:
        print("without a mutant:", *missing)
    dead = verdicts.count("dies")
    print(f"{dead} of {len(mutants)} mutants die")
    return int(dead < len(mutants) or bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
