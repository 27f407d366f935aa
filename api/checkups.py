"""A look at the whole lab: what the database holds, beside what the API sees of its own machine."""

import time

from api.lab import Lab
from domain import checkup
from domain.checkup import Api, Disk, Finding
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
        )
        schema = checkups.schema(connection)
        rows = checkups.rows(connection, database_now(connection)) if schema.is_current else None
    return checkup.findings(schema, rows, api)
