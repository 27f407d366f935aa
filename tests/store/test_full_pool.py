"""A pool of connections that is used up, as a client of the API sees it."""

import asyncio

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from api.problems import install
from store.engine import reading


def get(app: FastAPI) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:
            return await client.get("/")

    return asyncio.run(ask())


def test_a_full_pool_is_answered_as_a_database_that_is_away():
    """Nothing is wrong with the request: it may be sent again in a moment."""
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    app = FastAPI()
    install(app)

    @app.get("/")
    def ask() -> None:
        with reading(engine):
            pass

    with reading(engine):
        answer = get(app)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage-unavailable")
    assert answer.headers["retry-after"]
    assert get(app).status_code == 200
    engine.dispose()
