import os

# Each of pytest's workers computes with one thread, so that they do not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

from tests.store.databases import database_url, engine, sqlite_engine

__all__ = ["database_url", "engine", "sqlite_engine"]

# No test is about seconds: the first example of some pays for an import.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")
