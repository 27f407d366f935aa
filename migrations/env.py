"""Run migrations in one transaction, one process at a time."""

import sqlalchemy as sa
from alembic import context

from store.engine import make_engine
from store.tables import metadata

LOCK = 0x4D494752  # "MIGR"


def run() -> None:
    """Bring the database of the configuration to the asked-for revision."""
    engine = make_engine(context.config.attributes["url"])
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
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
    engine.dispose()


run()
