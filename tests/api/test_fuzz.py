"""Wrong values everywhere a client may send one, on both databases: refused, never a 500."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from store.engine import reading
from store.tables import runs
from tests.api.lab import LiveLab
from tests.fuzzing import DATA, LEAKS, LONG, WRONG, Place, all_places, value_at, written

JSON = {"Content-Type": "application/json"}


def in_process(lab: LiveLab, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run requests against the application itself, without a socket between."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app=lab.app)
        headers = {"Authorization": f"Bearer {lab.tokens['root']}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=60
        ) as client:
            return await work(client)

    return asyncio.run(run())


def faults(answer: httpx.Response) -> Iterable[str]:
    """Say what is wrong with an answer to a request that may not be accepted."""
    if answer.status_code >= 500:
        yield f"status {answer.status_code}"
        return
    if answer.status_code < 400:
        return
    if answer.headers["content-type"] != "application/problem+json":
        yield f"is {answer.headers['content-type']}"
    yield from (f"says {words!r}" for words in LEAKS if words in answer.text)
    if LONG[:200] in answer.text:
        yield "echoes what was sent"
    if len(answer.content) > 20_000:
        yield f"has {len(answer.content)} bytes"


def spec_faults(place: Place, value: object, answer: httpx.Response) -> Iterable[str]:
    """Say what is wrong with the answer to a submission with a wrong value in one place."""
    yield from faults(answer)
    if answer.status_code == 202:
        stored = value_at(answer.json()["spec"], place.pointer)
        if not same(stored, value):
            yield f"is read as {stored!r}"
    elif answer.status_code == 422:
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        if not any(related(pointer, place.pointer) for pointer in pointers) and not (
            set(pointers) & ELSEWHERE.get(place.pointer, set())
        ):
            yield f"names {pointers}"
    elif answer.status_code != 400 or answer.json()["code"] != "invalid-json":
        yield f"status {answer.status_code}"


ELSEWHERE = {
    "/preset": {"/method"},  # without the one, the other is required
    "/resources/gpu_model": {"/resources/gpus"},
    "/method/epsilon_high": {"/method/epsilon_low"},
    "/method/epsilon_gap": {"/method/epsilon_low"},
}
"""Two fields contradict each other, and the other one is named."""


def same(stored: object, value: object) -> bool:
    """Tell whether a value is stored as it was meant; an object may be filled up."""
    if isinstance(value, dict):
        return isinstance(stored, dict) and value.keys() <= stored.keys()
    if isinstance(value, bool) or isinstance(stored, bool):
        return stored is value
    return stored == value


def related(pointer: str, place: str) -> bool:
    """Tell whether one of two places is in the other."""
    return f"{pointer}/".startswith(f"{place}/") or f"{place}/".startswith(f"{pointer}/")


def stored_runs(lab: LiveLab) -> int:
    with reading(lab.engine) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(runs)) or 0


@pytest.fixture(scope="module")
def trained(lab, tmp_path_factory) -> str:
    """Id of a finished run with weights."""
    run = lab.start("root", data=DATA, model={"name": "small-cnn"})
    folder = tmp_path_factory.mktemp("weights")
    lab.keep_file(run, "checkpoints/best.safetensors", b"w", folder, role="best")
    lab.log(run, "a line")
    lab.measure(run, 0, [1, 2], train_loss=[1.0, 0.5])
    lab.finish(run)
    return run.id


@pytest.mark.timeout(900)  # 4,000 requests: 20 s of one core, and more where others compute too
def test_a_wrong_value_in_any_field_is_refused_and_stores_nothing(lab, trained):
    async def submit_all(client: httpx.AsyncClient) -> tuple[Counter[int], list[str]]:
        seen: Counter[int] = Counter()
        wrong: list[str] = []
        for place in all_places(trained):
            for title, value in WRONG.items():
                body = written(place.put(value))
                answer = await client.post("/api/v1/runs", content=body, headers=JSON)
                seen[answer.status_code] += 1
                wrong += [
                    f"{place.pointer} = {title}: {fault}; {answer.text[:300]}"
                    for fault in spec_faults(place, value, answer)
                ]
        return seen, wrong

    before = stored_runs(lab)
    seen, wrong = in_process(lab, submit_all)
    assert not wrong, "\n".join(wrong)
    assert stored_runs(lab) - before == seen[202]
    assert seen[422] > 2000
