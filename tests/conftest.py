from tests.store.databases import database_url, engine, sqlite_engine

__all__ = ["database_url", "engine", "sqlite_engine"]
