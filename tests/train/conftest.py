"""Training forks its workers, which is safe only where no library has threads yet: so in a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALONE = pytest.mark.skip(reason="forks its workers, so it needs a process of its own: pytest tests/train, or make test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(HERE not in item.path.parents for item in items):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(ALONE)
