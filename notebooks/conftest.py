"""The tests run the notebooks with small settings; ``make notebooks`` in full."""

import os

import pytest

os.environ.setdefault("SPREAD_JAX_QUICK", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)
