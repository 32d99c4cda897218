"""The page of rules has every rule that anybody cites, and each rule there has its test.

People cite a rule by its code in comments, docstrings and pages, in the marker of a test, and in
the list of mutants. A code is a letter and a number, such as B9.
"""

from __future__ import annotations

import ast
import functools
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import REASONS
from tests.mutants.__main__ import read as read_mutants
from tests.rules import PAGE, RULES, tables

ROOT = Path(__file__).parent.parent.parent
CODE = re.compile(r"""(?<![\w.'"])(?<![A-Za-z]-)[BCDEFHLMPRSTW](?:[1-9]|[1-5]\d)(?![\w"])""")
"""Never a part of a longer word or number, and nothing in quotes."""
LINTER = re.compile(r"#\s*(?:noqa|fmt|type|pyright|ruff):[^#\n]*")
"""What a comment says to a tool, which has codes of its own."""
PYTHON = [
    path
    for room in ("src", "tests", "benchmarks", "docs", "examples")
    for path in ROOT.glob(f"{room}/**/*.py")
]
PROSE = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "README.md", "CHANGELOG.md")),
    *(path for room in ("docs", "tests", "benchmarks") for path in ROOT.glob(f"{room}/**/*.md")),
]
MUTANTS = sorted(ROOT.glob("tests/mutants/*.toml"))


def codes_in(prose: str) -> set[str]:
    """The rules that a piece of prose cites."""
    return set(CODE.findall(LINTER.sub("", prose)))


def prose_of(path: Path) -> Iterator[str]:
    """The comments of a Python file, its docstrings, and other strings that stand alone."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def marked_in(path: Path) -> set[str]:
    """The rules that the markers of a Python file name."""
    return {
        ast.literal_eval(argument)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == "pytest.mark.rule"
        for argument in node.args
    }


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def cited() -> dict[str, set[str]]:
    """The codes that are cited, each with the files that cite it."""
    found: dict[str, set[str]] = {}

    def cite(codes: set[str], path: Path) -> None:
        for code in codes:
            found.setdefault(code, set()).add(path.relative_to(ROOT).as_posix())

    for path in PYTHON:
        cite(marked_in(path), path)
        for prose in prose_of(path):
            cite(codes_in(prose), path)
    for path in PROSE:
        if "_build" not in path.parts:
            cite(codes_in(path.read_text(encoding="utf-8")), path)
    for path in MUTANTS:
        text = path.read_text(encoding="utf-8")
        cite({mutant["rule"] for mutant in tomllib.loads(text)["mutant"]}, path)
        cite(codes_in("\n".join(re.findall(r"^#.*", text, re.MULTILINE))), path)
    cite({code for code, _ in REASONS}, ROOT / "tests" / "matrix.py")
    return found


def test_every_rule_that_is_cited_is_on_the_page() -> None:
    found = cited()
    assert not {code: sorted(files) for code, files in found.items() if code not in RULES}
    places = {file.partition("/")[0] for files in found.values() for file in files}
    assert {"src", "tests", "docs", "CONTRIBUTING.md"} <= places, "nothing was looked at there"


def test_every_rule_of_the_page_has_a_test() -> None:
    tested = set[str]().union(*map(marked_in, ROOT.glob("tests/**/test_*.py")))
    assert not set(RULES) - tested


def test_every_mutant_can_be_made() -> None:
    assert [(one.test, fault) for one in read_mutants() if (fault := one.stale())] == []


def test_the_codes_are_unique_and_in_order_in_their_table() -> None:
    assert len(RULES) == len(set(RULES))
    for table in tables(PAGE.read_text(encoding="utf-8")):
        assert len({code[0] for code in table}) == 1, table
        assert table == sorted(table, key=lambda code: int(code[1:]))


def test_no_row_of_the_page_is_overlooked() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\|\W*([A-Z]\d+)\b", page, re.MULTILINE) == RULES


@pytest.mark.parametrize(
    ("prose", "codes"),
    [
        ("handed over to the first in the queue at once (L1).", {"L1"}),
        ("The breaker as its users see it: B1 to B8, B10 and B12.", {"B1", "B8", "B10", "B12"}),
        ("The rules B1-B13: see `T3`, and F10's keys.", {"B1", "B13", "T3", "F10"}),
        ("price A-17, latency p95 or P95, H2O, gRPC proposal A6, 1e10, 0xE5, U+00B7", set()),
        ("a service in zone eu-C1, or test_B9, or v1.F3, or 'T1'", set()),
        ("# noqa: E1, D105, S3  # as R5 says", {"R5"}),
        ("# noqa: S101, C901, T201", set()),
        ("a kind of type: see B2", {"B2"}),
    ],
)
def test_what_is_a_code(prose: str, codes: set[str]) -> None:
    assert codes_in(prose) == codes
