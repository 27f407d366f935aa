"""Run migrations in one transaction, one process at a time."""

import sqlalchemy as sa
from alembic import context

from store.engine import make_engine
from store.tables import metadata

LOCK = 0x4D494752  # "MIGR"


def run() -> None:
    """Bring the database of the configuration to the asked-for revision."""
    engine = make_engine(context.config.attributes["url"])
    connection = engine.connect().execution_options(writes=True)
    if connection.dialect.name == "sqlite":
        # A table that is rebuilt is dropped for a moment, which must not delete what refers to it.
        # Inside a transaction the pragma would do nothing.
        connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
    with connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=False,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.dialect.name == "sqlite":
            dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if dangling:
                raise RuntimeError(f"the migration leaves dangling references: {dangling[:5]}")
    engine.dispose()


run()
