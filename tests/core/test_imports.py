"""The rooms of the house: imports run one way, rules are pure, and one module reads the clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilient

ROOT = Path(resilient.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
CORE = [path for path in MODULES if path.parent == ROOT / "_core"]

PURE = {
    "__future__", "array", "bisect", "collections", "collections.abc", "contextlib", "dataclasses",
    "datetime", "email.utils", "enum", "fractions", "functools", "hashlib", "heapq", "inspect",
    "itertools", "math", "operator", "re", "struct", "sys", "types", "typing",
}  # fmt: skip
"""What the rules may use of the standard library: nothing waits, locks, or reads time."""

ROOMS = {
    "_core": {"_core"},
    "_typing": set[str](),
    "_runtime": {"_core", "_runtime"},
    "errors": {"_core"},
    "events": {"_core", "_runtime"},
}
"""Which rooms each of the lower rooms may enter."""

LOW = {*ROOMS, "_policies"}
OUTER = {"telemetry", "integrations", "drill"}


def name_of(path: Path) -> str:
    """The dotted name inside the package: ``_core.breaker``; the face is ``""``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def imported(path: Path) -> Iterator[str]:
    """Every module that *path* imports anywhere, also for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            if node.module == "resilient":
                yield from (f"resilient.{alias.name}" for alias in node.names)
            else:
                yield node.module


def inside(path: Path) -> set[str]:
    """The rooms that *path* enters; a class or function of the face is the face itself, ``""``."""
    entered = {
        name.partition(".")[2] for name in imported(path) if name.partition(".")[0] == "resilient"
    }
    rooms = {path.stem for path in ROOT.iterdir()}
    return {room(name) if room(name) in rooms else "" for name in entered}


def idea(path: Path) -> str:
    return name_of(path) or "the face"


@pytest.mark.parametrize("path", CORE, ids=idea)
def test_a_rule_imports_rules_and_what_is_pure(path: Path) -> None:
    strange = {name for name in imported(path) if not name.startswith("resilient._core.")} - PURE
    assert not strange


@pytest.mark.parametrize("path", CORE, ids=idea)
def test_a_rule_waits_for_nothing(path: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, waits)]


@pytest.mark.parametrize("path", MODULES, ids=idea)
def test_imports_run_one_way(path: Path) -> None:
    own = room(name_of(path))
    if own in ROOMS:
        assert inside(path) <= ROOMS[own] | {"_typing", own}
    elif own == "_policies":
        assert inside(path) <= LOW
    elif own in {"", "testing"}:
        assert inside(path) <= LOW | {"testing"}
    else:
        assert own in OUTER, f"{own} has no place in the house"
        assert inside(path) <= LOW | {"", "testing", "telemetry", own}


@pytest.mark.rule("T1")
@pytest.mark.parametrize("path", MODULES, ids=idea)
def test_one_module_reads_the_clock(path: Path) -> None:
    if name_of(path) == "_runtime.clock":
        assert "time" in set(imported(path))
    elif room(name_of(path)) != "drill":  # a command that measures real time
        assert "time" not in set(imported(path))


def test_the_rooms_are_there() -> None:
    assert {"_core", "_runtime", "_policies", "errors", "events", "testing", "telemetry", ""} <= {
        room(name_of(path)) for path in MODULES
    }
    assert len(CORE) > 10
