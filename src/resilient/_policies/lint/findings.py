"""What a rule of lint finds."""

from __future__ import annotations

from dataclasses import dataclass

from resilient._policies.common.policy import PolicyBase


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction in a stack.

    ``rule`` is its name, which stays the same from release to release; ``policies`` are those
    that contradict each other, by kind and name, the outer one first; ``why`` says what happens,
    ``write`` what to write instead.
    """

    rule: str
    policies: tuple[str, ...]
    why: str
    write: str

    def __str__(self) -> str:
        return f"{self.rule} ({', '.join(self.policies)}): {self.why} {self.write}"


def called(*policies: PolicyBase) -> tuple[str, ...]:
    """*policies* by kind and name, each once."""
    return tuple(
        one.kind if one.name == one.kind else f"{one.kind} {one.name!r}"
        for one in dict.fromkeys(policies)
    )
