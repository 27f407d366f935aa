"""A look at the whole lab: what the database holds, beside what the API sees of its own machine."""

import time

from api.lab import Lab
from domain import checkup
from domain.checkup import Api, Disk, Finding, Store
from store import checkup as checkups
from store.engine import clock_skew, database_now


def examine(lab: Lab) -> tuple[Finding, ...]:
    """Return what every check found."""
    broker, usage = lab.doorbell.silence(), lab.blobs.disk()
    with lab.reading() as connection:
        api = Api(
            clock_skew=clock_skew(connection, time.time),
            disk=None if usage is None else Disk(*usage),
            broker=broker,
            store=_store(lab),
        )
        schema = checkups.schema(connection)
        rows = checkups.rows(connection, database_now(connection)) if schema.is_current else None
    return checkup.findings(schema, rows, api)


def _store(lab: Lab) -> Store:
    """Look at the artifact store; whatever its driver raises is one that cannot be used."""
    try:
        return Store(lab.blobs.identity(), "")
    except Exception as error:  # noqa: BLE001
        return Store(None, f"{type(error).__name__}: {error}"[:300])
