"""What a request works with: the database, the artifact store, the doorbell, the logins."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Concatenate, ParamSpec, TypeVar

from fastapi import Depends, Request
from sqlalchemy import Connection, Engine
from starlette.concurrency import run_in_threadpool

from api.doorbell import Doorbell
from api.sessions import Sessions
from api.settings import ApiSettings
from store.blobs import Blobs
from store.engine import make_engine, reading, writing

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """One a process."""

    settings: ApiSettings
    engine: Engine
    blobs: Blobs
    doorbell: Doorbell
    sessions: Sessions

    def reading(self) -> AbstractContextManager[Connection]:
        """Open one consistent view of the database."""
        return reading(self.engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """Open one transaction: a request's changes happen together or not at all."""
        return writing(self.engine)

    async def look(
        self,
        query: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run one query on the request pool, for routes that wait without holding a thread."""

        def run() -> T:
            with self.reading() as connection:
                return query(connection, *args, **kwargs)

        return await run_in_threadpool(run)


def open_lab(settings: ApiSettings) -> Lab:
    """Return a lab on these settings. Nothing is connected yet."""
    key = settings.session_key.get_secret_value() if settings.session_key else None
    return Lab(
        settings=settings,
        engine=make_engine(settings.database, pool_size=settings.request_threads),
        blobs=Blobs(settings.artifacts),
        doorbell=Doorbell(settings.broker_url),
        sessions=Sessions(
            key, settings.state_folder / "session.key", timedelta(hours=settings.session_hours)
        ),
    )


async def lab_of(request: Request) -> Lab:
    """Return the lab of the application that serves ``request``."""
    lab: Lab = request.app.state.lab
    return lab


TheLab = Annotated[Lab, Depends(lab_of)]
