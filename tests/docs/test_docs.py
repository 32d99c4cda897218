"""The code in the docs runs as it stands, and prints what the page says.

Each page is one program: its ```python blocks run in turn, in one namespace. A ```text
block that follows one is what it prints ("..." stands for anything). Functions named
``test_*`` are called, as pytest would.

Time is virtual, so that nothing waits: `asyncio.run` and `time.sleep` follow it. A page
that makes a virtual time of its own is left to it. ``<!-- not run: reason -->`` above a block
excuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import inspect
import io
import re
import subprocess
import sys
import time
import types
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import resilient
from resilient import lint, policy_of
from resilient._policies.common import policy
from resilient._runtime.registry import Registry
from resilient.drill.arguments import make_parser
from resilient.integrations import aiohttp, asgi, grpc, httpx2, wsgi
from resilient.integrations import requests as requests_
from resilient.telemetry import prometheus
from resilient.testing import fresh, virtual_time

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
MOST_EXCUSED = 3
FENCE = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- not run: (?P<reason>[^\n]+) -->\n\Z")
OWN_CLOCK = re.compile(r"\bvirtual_time\b|^import (grpc|openai)$", re.MULTILINE)
"""What a page has whose code can't run in virtual time: a clock of its own, or of gRPC, or a server
of its own in a thread.
"""


@dataclass
class Block:
    """One ```python block: its code on its own lines of the page, and what it is to print."""

    line: int
    code: str
    prints: str | None = None
    excuse: str | None = None


@dataclass
class Page:
    """One file of the docs."""

    path: Path
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def has_own_clock(self) -> bool:
        return any(OWN_CLOCK.search(block.code) for block in self.blocks)


def read(path: Path) -> Page:
    """Take a page apart."""
    text, page, end = path.read_text(encoding="utf-8"), Page(path), 0
    for fence in FENCE.finditer(text):
        language, body = fence["language"].strip(), fence["body"]
        before = text[end : fence.start()]
        if language == "python":
            excuse = EXCUSE.search(before)
            line = text.count("\n", 0, fence.start()) + 1
            page.blocks.append(Block(line, "\n" * line + body, excuse=excuse and excuse["reason"]))
        elif (
            language == "text"
            and page.blocks
            and not before.strip()
            and page.blocks[-1].prints is None
        ):
            page.blocks[-1].prints = body
        end = fence.end()
    return page


PAGES = [read(path) for path in [README, *sorted(DOCS.rglob("*.md"))] if "_build" not in path.parts]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.blocks], ids=lambda page: page.name
)
def test_the_code_of_a_page_runs(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    # As a program it has no policies but its own.
    monkeypatch.setattr(policy, "registry", Registry())
    with contextlib.nullcontext() if page.has_own_clock else pretend_time(monkeypatch), fresh():
        for block in page.blocks:
            if block.excuse is None:
                run(page, block, module)
        check_stacks(page, module)


def check_stacks(page: Page, module: types.ModuleType) -> None:
    """No example contradicts itself."""
    for name, value in vars(module).items():
        if isinstance(value, policy.PolicyBase) or policy_of(value) is not None:
            assert lint(policy_of(value) or value) == [], f"{page.name}: {name}"


@contextlib.contextmanager
def pretend_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with virtual_time() as clock:

        def run_in_it(main: Coroutine[Any, Any, Any]) -> Any:
            async def go() -> Any:
                return await main

            return clock.run(go)

        monkeypatch.setattr(asyncio, "run", run_in_it)
        monkeypatch.setattr(time, "sleep", clock.advance)
        yield


def run(page: Page, block: Block, module: types.ModuleType) -> None:
    before = set(vars(module))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.code, str(page.path), "exec"), vars(module))
        for name in [
            name for name in vars(module) if name.startswith("test_") and name not in before
        ]:
            call_test(getattr(module, name))
    if block.prints is not None:
        check = doctest.OutputChecker()
        wanted = block.prints
        good = check.check_output(wanted, printed.getvalue(), doctest.ELLIPSIS)
        assert good, f"{page.name}:{block.line} prints\n{printed.getvalue()}\nand not\n{wanted}"


def call_test(function: Any) -> None:
    wants = set(inspect.signature(function).parameters)
    assert wants <= {"virtual_time"}, (
        f"{function.__name__} takes {wants}, and only virtual_time is there"
    )
    if wants:
        with virtual_time(fresh=True) as clock:
            if inspect.iscoroutinefunction(function):
                clock.run(function, clock)
            else:
                function(clock)
    else:
        function()


def test_few_blocks_are_excused() -> None:
    excused = [
        f"{page.name}:{block.line}: {block.excuse}"
        for page in PAGES
        for block in page.blocks
        if block.excuse
    ]
    assert len(excused) <= MOST_EXCUSED, excused


@pytest.mark.real_clock
def test_the_example_of_the_readme_is_a_program_of_twenty_lines(tmp_path: Path) -> None:
    block = read(README).blocks[0]
    code = block.code.strip() + "\n"
    assert len([line for line in code.splitlines() if line]) <= 20
    program = tmp_path / "example.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert block.prints is not None
    assert doctest.OutputChecker().check_output(block.prints, done.stdout, doctest.ELLIPSIS), (
        done.stdout
    )


# Tables of defaults: | `breaker` | default | meaning |, and a row for each argument.

TABLE = re.compile(
    r"^\| `(?P<function>[\w.]+)` +\| default +\|.*\n\|[-| :]+\|\n(?P<rows>(?:\|.*\n)+)",
    re.MULTILINE,
)
ROW = re.compile(r"^\| `(?P<argument>\w+)` +\| (?P<default>.*?) +\|", re.MULTILINE)
EFFECTIVE = {
    ("retry", "attempts"): "`3`",
    ("retry", "budget"): "`RetryBudget(ratio=0.2, per_second=1, ttl=10)`",
    ("hedge", "budget"): "`RetryBudget(ratio=0.05, per_second=0.2, ttl=10)`",
    ("fallback", "handler"): "none: exactly one of the three",
    ("fallback", "default"): "none: exactly one of the three",
    ("fallback", "instead"): "none: exactly one of the three",
    ("protect", "breaker"): "`breaker(consecutive_failures=5, failure_rate=1.0, "
    "cooldown=backoff(1.0, factor=2.0, max=2.0, jitter=0.05), on=on)`",
    ("protect", "limit"): "`adaptive_limit(initial=5, queue=1000)`",
    **{
        (client, argument): said
        for client in ("ResilientAdapter", "ResilientMiddleware", "ResilientTransport")
        for argument, said in (
            ("policy", "a retry around a breaker around a bulkhead"),
            ("failures", "`FAILURES`"),
            ("idempotent", "`IDEMPOTENT`"),
            ("wire", "`Wire()`"),
        )
    },
    ("client_interceptors", "policy"): "a retry around a breaker around a bulkhead",
    ("client_interceptors", "failures"): "`FAILURES`",
}
"""What stands behind the sentinels; a test holds it against the policies."""

TABLES = [
    (page.name, table["function"], table["rows"])
    for page in PAGES
    for table in TABLE.finditer(page.path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    ("page", "function", "rows"), TABLES, ids=[function for _, function, _ in TABLES]
)
def test_a_table_of_defaults_says_what_the_signature_says(
    page: str, function: str, rows: str
) -> None:
    modules = (aiohttp, asgi, grpc, httpx2, requests_, wsgi)
    homes = [home for home in modules if function in home.__all__]
    homes.sort(key=lambda home: not home.__name__.endswith(f".{Path(page).stem}"))
    found: Any = next(iter(homes), resilient)
    for part in function.split("."):
        found = getattr(found, part)
    wanted = {
        name: EFFECTIVE.get((function, name)) or default_of(parameter)
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.kind is not parameter.VAR_POSITIONAL
    }
    said = {row["argument"]: row["default"] for row in ROW.finditer(rows)}
    assert said == wanted, page


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "none, required"
    value = parameter.default
    if isinstance(value, type):
        return f"`{value.__name__}`"
    return (
        f"`BreakerState.{value.name}`"
        if isinstance(value, resilient.BreakerState)
        else f"`{value!r}`".replace("'", '"')
    )


def test_every_factory_has_its_table_of_defaults() -> None:
    factories = {
        "breaker",
        "retry",
        "backoff",
        "RetryBudget",
        "deadline",
        "timeout",
        "singleflight",
        "pipeline",
        "bulkhead",
        "rate_limit",
        "adaptive_limit",
        "throttle",
        "hedge",
        "fallback",
        "cache",
        "BloomFilter",
        "protect",
    }
    assert factories <= {function for _, function, _ in TABLES}


def test_what_stands_behind_the_sentinels() -> None:
    policy = resilient.retry(on=ValueError)
    assert f"`{policy._settings.attempts}`" == EFFECTIVE["retry", "attempts"]
    assert f"`{resilient.RetryBudget()!r}`" == EFFECTIVE["retry", "budget"]
    assert f"`{resilient.hedge(1)._budget!r}`" == EFFECTIVE["hedge", "budget"]
    make: Any = resilient.fallback
    for wrong in ({}, {"handler": repr, "default": 1}, {"handler": repr, "instead": repr}):
        with pytest.raises(TypeError, match="exactly one of handler, default and instead"):
            make(**wrong)


def evaluate(said: str, **given: object) -> object:
    """What is made by the code that a table shows."""
    return eval(said.strip("`"), dict(vars(resilient)), given)


def test_the_breaker_of_protect_is_the_one_that_its_page_says() -> None:
    by_protect = resilient.protect(on=KeyError, timeout=1).breaker
    assert by_protect is not None
    as_said = evaluate(EFFECTIVE["protect", "breaker"], on=KeyError)

    def fails() -> None:
        raise KeyError

    def answers_with_an_error() -> None:
        raise ValueError

    for one in (by_protect, cast("resilient.Breaker", as_said)):
        for fn in (answers_with_an_error, *[fails] * 5):  # none failed before: no tolerance
            assert one.state is resilient.BreakerState.CLOSED
            with pytest.raises((KeyError, ValueError)):
                one.call(fn)
        assert one.state is resilient.BreakerState.OPEN


def test_the_limit_of_protect_is_the_one_that_its_page_says() -> None:
    by_protect = resilient.protect(on=KeyError, timeout=4).limit
    assert by_protect is not None
    as_said = cast("resilient.AdaptiveLimit", evaluate(EFFECTIVE["protect", "limit"]))

    async def crowd(limit: resilient.AdaptiveLimit) -> list[tuple[str, int]]:
        """How each of a crowd fared, and after how many seconds."""
        began = asyncio.get_running_loop().time()

        async def one() -> tuple[str, int]:
            try:
                await limit.call(asyncio.sleep, 60)
            except resilient.Overloaded as error:
                return error.reason, round(asyncio.get_running_loop().time() - began)
            return "served", round(asyncio.get_running_loop().time() - began)

        return await asyncio.gather(*(one() for _ in range(14)))

    with virtual_time() as clock:  # in protect's queue calls wait for the timeout at most
        assert clock.run(crowd, by_protect) == [*[("served", 60)] * 5, *[("max_wait", 4)] * 9]
        fared = clock.run(crowd, as_said)
        assert [how for how, _ in fared] == ["served"] * 14
        assert [after for _, after in fared].count(60) == 5


HEADS = ("About", "Use", "Defaults", "Events", "Errors", "States", "Anti-patterns")


@pytest.mark.parametrize(
    "policy",
    [
        "breaker",
        "retry",
        "deadline",
        "timeout",
        "singleflight",
        "pipeline",
        "bulkhead",
        "rate_limit",
        "adaptive_limit",
        "throttle",
        "hedge",
        "fallback",
        "cache",
        "protect",
    ],
)
def test_the_page_of_a_policy_has_the_seven_heads(policy: str) -> None:
    text = FENCE.sub("", (DOCS / "reference" / f"{policy}.md").read_text(encoding="utf-8"))
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADS


def test_the_page_on_metrics_names_those_of_a_scrape() -> None:
    registry = CollectorRegistry()
    prometheus.register(registry)
    page = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    said = set(re.findall(r"^\| `(resilient_\w+)` \| (\w+)", page, re.MULTILINE))
    helps = re.findall(
        r"^# TYPE (resilient_\w+) (\w+)", generate_latest(registry).decode(), re.MULTILINE
    )
    assert said == {(name, kind) for name, kind in helps if not name.endswith("_created")}


def test_the_page_on_the_drill_has_every_option() -> None:
    words = set(re.findall(r"--\w+", make_parser("drill").format_help())) - {"--help"}
    page = (DOCS / "reference" / "drill.md").read_text(encoding="utf-8")
    assert words == set(re.findall(r"--\w+", page)) & words
    assert set(re.findall(r"^\| `(--\w+)", page, re.MULTILINE)) == words
