"""The command line: what may be said, and what is answered to what may not."""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from resilient.drill.plan import Address, Plan, complaint
from resilient.drill.scenarios import SAYS, Scenario

EPILOG = """\
scenarios:
{scenarios}
  all         each of them, one after the other

exit code: 0 every objective met, 1 one was missed, 2 the drill could not be run,
130 interrupted. --target sends three times the rate to your service: use one that may suffer.
"""


def parse(argv: Sequence[str] | None, *, prog: str = "resilient drill") -> Plan:
    """Read the command line; exits with 2 and a sentence if it can't be followed."""
    parser = make_parser(prog)
    given = parser.parse_args(argv)
    if said := complaint(given.rate, given.seconds, given.deadline):
        parser.error(said)
    every = given.scenario == "all"
    return Plan(
        scenarios=tuple(Scenario) if every else (Scenario(given.scenario),),
        rate=given.rate,
        seconds=given.seconds,
        deadline=given.deadline,
        seed=secrets.randbelow(10**6) if given.seed is None else given.seed,
        target=given.target,
        json=given.json,
        plain=given.plain,
        metrics=given.metrics,
        without=frozenset(given.without),
    )


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The words that the command knows."""
    lines = "\n".join(f"  {name:<11} {says}" for name, says in SAYS.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Break a real service on schedule, and see which client gets through.",
        epilog=EPILOG.format(scenarios=lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_run(parser)
    _add_output(parser)
    # A self-test of the drill: it must not pass a client that lacks a policy.
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["breaker", "retry"],
        help=argparse.SUPPRESS,
    )
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    names = [*map(str, Scenario), "all"]
    add("scenario", nargs="?", default="partition", choices=names, metavar="SCENARIO",
        help=f"{', '.join(names)} (default: partition)")  # fmt: skip
    add("--rate", type=_number(5, 1000, "calls per second"), default=100.0, metavar="N",
        help="calls per second of each client, 5 to 1000 (default: 100)")  # fmt: skip
    add("--seconds", type=_number(2, 600, "seconds"), default=20.0, metavar="S",
        help="length of a run, 2 to 600; 25 %% healthy, 35 %% broken (default: 20)")  # fmt: skip
    add("--deadline", type=_number(0.1, 5, "seconds"), default=0.5, metavar="S",
        help="what a caller waits at most, 0.1 to 5 (default: 0.5)")  # fmt: skip
    add("--target", type=_url, metavar="URL",
        help="drill this service through the proxy, instead of one of our own")  # fmt: skip
    add("--seed", type=_whole(0, 2**32 - 1), metavar="N",
        help="makes arrivals and dice the same again (default: drawn, and printed)")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", type=_writable, metavar="FILE", help="write the whole result there")
    add("--plain", action="store_true", help="lines instead of a live view")
    add("--metrics", type=_whole(0, 65535), metavar="PORT",
        help="serve the resilient client's metrics on 127.0.0.1:PORT; 0 picks one")  # fmt: skip


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number from {low:g} to {high:g} ({unit})"
            )
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _url(text: str) -> str:
    try:
        Address.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _writable(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory; name a file in it")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no directory {str(path.parent)!r}; make it first"
        )
    return path
