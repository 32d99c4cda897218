"""The rules, as the page of the documentation lists them: the one source of their codes.

A row of a table of that page that begins with a code is a rule.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "rules.md"
ROW = re.compile(r"\| (?P<code>[A-Z]\d{1,2}) +\| (?P<words>.+) \|")


def tables(page: str) -> list[list[str]]:
    """The codes of each table of *page*, in its order; tables without rules are left out."""
    found: list[list[str]] = [[]]
    for line in page.splitlines():
        if row := ROW.fullmatch(line):
            found[-1].append(row["code"])
        elif not line.startswith("|") and found[-1]:
            found.append([])
    return [table for table in found if table]


RULES = [code for table in tables(PAGE.read_text(encoding="utf-8")) for code in table]
"""Every code, in the order of the page."""
