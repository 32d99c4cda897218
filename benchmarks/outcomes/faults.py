"""What befalls the service, and what `protect` is to reach then."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.outcomes.service import Condition

BEGINS, LASTS, TOTAL = 30.0, 30.0, 120.0
ENDS = BEGINS + LASTS
HEALTHY = Condition()


@dataclass(frozen=True)
class Reach:
    """One figure and its bound."""

    what: str
    figure: str  # of a `Verdict`
    bound: float
    at_least: bool = False

    def value(self, verdict: object) -> float:
        return float(getattr(verdict, self.figure))

    def held(self, verdict: object) -> bool:
        value = self.value(verdict)
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Fault:
    """A fault: its conditions by the second at which they begin, and what is to be reached."""

    name: str
    conditions: tuple[tuple[float, Condition], ...] = ()
    reaches: tuple[Reach, ...] = ()
    ends: float = ENDS
    utilisation: float = 0.7
    surge: float = 1.0  # arrivals, while it lasts
    surge_lasts: float = 0.0
    users_return: int = 0  # how often a user who was not served comes back
    keyed: bool = False
    hedged: bool = False
    oracle: bool = False  # its reach is relative to the oracle's
    plain: bool = False  # its reach is relative to a `protect` without the hedge
    total: float = TOTAL
    note: str = ""
    weights: tuple[float, ...] = field(default=(1.0,) * 10)


def during(condition: Condition) -> tuple[tuple[float, Condition], ...]:
    return ((BEGINS, condition), (ENDS, HEALTHY))


def flapping(down: float, up: float) -> tuple[tuple[float, Condition], ...]:
    """Down for so many seconds, up for so many, and so on until the end."""
    cycles = range(round(LASTS / (down + up)))
    begins = [BEGINS + cycle * (down + up) for cycle in cycles]
    return tuple(
        step for at in begins for step in ((at, Condition(down=True)), (at + down, HEALTHY))
    )


FAULTS = (
    Fault(
        "down",
        during(Condition(down=True)),
        (
            Reach("sent per user call", "sent", 0.06),
            Reach("load after 1 s", "load_after_one", 0.20),
            Reach("back after, s", "back", 4.0),
        ),
    ),
    Fault(
        "blackhole",
        during(Condition(blackhole=True)),
        (
            Reach("sent per user call", "sent", 0.10),
            Reach("p99 of doomed calls, s", "doomed_p99", 0.400),
            Reach("latest end past the deadline, s", "late", 1e-6),
        ),
    ),
    Fault("slow x 50", during(Condition(slower=50)), (Reach("back after, s", "back", 6.0),)),
    Fault(
        "brownout to 30 %",
        during(Condition(slower=1 / 0.3)),
        (
            Reach("goodput / oracle's", "of_oracle", 0.5, at_least=True),
            Reach("back after, s", "back", 5.0),
        ),
        oracle=True,
    ),
    Fault(
        "spike x 3 for 5 s",
        (),
        (
            Reach("users served in the end", "users_served", 1.0, at_least=True),
            Reach("back after, s", "back", 35.0),
        ),
        ends=BEGINS + 5.0,
        utilisation=0.85,
        surge=3.0,
        surge_lasts=5.0,
        users_return=3,
        total=300.0,
        note="a user who was not served comes back after half a minute, on average",
    ),
    Fault(
        "restart, 10 s at 40 %",
        (
            (BEGINS, Condition(down=True)),
            (ENDS - 10.0, Condition(slower=1 / 0.4)),
            (ENDS, HEALTHY),
        ),
        (
            Reach("good in the 10 s", "good_late", 0.35, at_least=True),
            Reach("back after, s", "back", 2.0),
        ),
    ),
    Fault(
        "one of ten keys dead",
        during(Condition(dead_keys=frozenset((0,)))),
        (Reach("good of the other nine", "good_others", 0.999, at_least=True),),
        keyed=True,
        weights=(9.0, *(1.0,) * 9),
    ),
    Fault(
        "10 % random errors",
        during(Condition(errors=0.1)),
        (Reach("good during the fault", "good", 0.998, at_least=True),),
    ),
    Fault(
        "60 % fail at once",
        during(Condition(refused=0.6)),
        (Reach("goodput / oracle's", "of_oracle", 0.7, at_least=True),),
        oracle=True,
    ),
    Fault(
        "flapping, 3 s each",
        flapping(down=3.0, up=3.0),
        (Reach("goodput / oracle's", "of_oracle", 0.75, at_least=True),),
        oracle=True,
    ),
    Fault(
        "2 % of calls 50 x slow",
        during(Condition(stragglers=0.02)),
        (
            Reach("p99 / without hedge", "of_plain", 0.3),
            Reach("sent per user call", "sent", 1.05),
        ),
        hedged=True,
        plain=True,
    ),
)
