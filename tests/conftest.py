import os

# Each of pytest's workers computes with one thread, so that they do not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import is_hypothesis_test, settings

from tests.examples import FACTOR, examples
from tests.store.databases import database_url, engine, sqlite_engine

__all__ = ["database_url", "engine", "sqlite_engine"]


@pytest.fixture(autouse=True)
def _only_tests_are_measured(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a whole lab's processes run unmeasured: coverage costs a third of their time."""
    if request.node.get_closest_marker("acceptance"):
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            monkeypatch.delenv(name)


# No test is about seconds: the first example of some pays for an import.
# Examples are the same every time; random search is `make fuzz`, which asks for its own profile.
settings.register_profile("lab", deadline=None, derandomize=True, max_examples=examples(100))
settings.register_profile(
    "fuzz", deadline=None, derandomize=False, max_examples=examples(100)
)  # where CI is set, hypothesis would draw the same every time
settings.load_profile("lab")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to `make fuzz` what draws at random, and nothing else."""
    if FACTOR == 1:
        return
    random = [item for item in items if _is_random(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(random)])
    items[:] = random


def _is_random(item: pytest.Item) -> bool:
    function = getattr(item, "obj", None)
    marked = any(item.get_closest_marker(name) for name in ("fuzz", "random"))
    return marked or is_hypothesis_test(function)
