"""The lower bounds of pyproject.toml as constraints: `python -m tests.oldest`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
OURS = (
    "prometheus",
    "httpx",
    "httpx2",
    "litestar",
    "aiohttp",
    "requests",
    "grpc",
    "drill",
)
"""What users install; test tools may be new."""


def bounds() -> Iterator[str]:
    """``name==version`` for each requirement of the package and its extras."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = [one for extra in OURS for one in project["optional-dependencies"][extra]]
    for requirement in (*project["dependencies"], *extras, "trio>=0.31", "openai>=2.28"):
        found = re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", requirement)
        if found is not None:
            yield f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(bounds()))
