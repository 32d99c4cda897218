"""How many attacks are played: a test that takes ``seed`` is one for each."""

from __future__ import annotations

import pytest

SEEDS = 30


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEEDS * metafunc.config.getoption("attacks")))
