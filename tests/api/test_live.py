import asyncio
import json
import threading
import time

import pytest

from api.live import Cursor
from domain.run_state import RunState
from tests.api.lab import LiveLab, events, live_lab


def follow(lab: LiveLab, run_id: str, since: str | None = None) -> list:
    """All events of a run's stream until it ends."""
    headers = {"Last-Event-ID": since} if since else {}
    with lab.client().stream("GET", f"/api/v1/runs/{run_id}/stream", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(events(answer))


@pytest.fixture(scope="module")
def finished(lab):
    run = lab.start()
    lab.log(run, "one", "two\nlines", "three")
    lab.measure(run, 0, [0, 1], train_loss=[2.0, float("nan")])
    lab.advance(run, phase="train", done=2, total=4, unit="step")
    lab.finish(run)
    return run


def test_a_stream_tells_everything_and_ends(lab, finished):
    told = follow(lab, finished.id)
    names = [name for name, _, _ in told]
    assert names == ["log"] * 4 + ["metrics"] + ["state"] * 3 + ["progress", "end"]
    assert [data["message"] for name, _, data in told if name == "log"][1] == "two\nlines"
    assert told[4][2]["train/loss"]["last"] == "NaN"
    assert [d["target"] for n, _, d in told if n == "state"] == ["queued", "running", "succeeded"]
    assert told[-2][2]["done"] == 2
    assert told[-1][2]["state"] == "succeeded"


def test_a_stream_resumes_after_any_event_and_misses_nothing(lab, finished):
    whole = follow(lab, finished.id)
    for index, (_, event_id, _) in enumerate(whole[:-1]):
        assert follow(lab, finished.id, event_id) == whole[index + 1 :]


def test_a_stream_can_be_resumed_by_query_too(lab, finished):
    whole = follow(lab, finished.id)
    path = f"/api/v1/runs/{finished.id}/stream?last_event_id={whole[4][1]}"
    with lab.client().stream("GET", path) as answer:
        assert list(events(answer)) == whole[5:]


def test_news_arrive_while_the_run_runs(lab):
    run = lab.start()
    seen: list[str] = []
    started = threading.Event()

    def listen() -> None:
        with lab.client().stream("GET", f"/api/v1/runs/{run.id}/stream") as answer:
            for name, _, data in events(answer):
                seen.append(data["message"] if name == "log" else name)
                started.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert started.wait(20)
    lab.log(run, "hello")
    deadline = time.monotonic() + 20
    while "hello" not in seen and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "hello" in seen
    lab.finish(run, RunState.FAILED, failure={"code": "x", "message": "m"})
    thread.join(timeout=20)
    assert seen[-1] == "end"


def test_a_silent_stream_is_kept_open_by_comments_and_has_an_end(tmp_path):
    with live_lab("sqlite", tmp_path, heartbeat_seconds=0.05, stream_seconds=1.0) as lab:
        run = lab.submit()
        with lab.client().stream("GET", f"/api/v1/runs/{run.id}/stream") as answer:
            lines = list(answer.iter_lines())
    assert sum(line.startswith(":") for line in lines) >= 2
    assert not any("end" in line for line in lines if line.startswith("event"))


def test_a_hundred_listeners_leave_the_api_answering(sqlite_lab):
    run = sqlite_lab.submit()

    async def listen_and_ask() -> float:
        import httpx

        headers = {"Authorization": f"Bearer {sqlite_lab.tokens['ada']}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=sqlite_lab.url, headers=headers, timeout=30, limits=limits
        ) as client:

            async def listen() -> None:
                async with client.stream("GET", f"/api/v1/runs/{run.id}/stream") as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("event: end"):
                            return

            listeners = [asyncio.create_task(listen()) for _ in range(100)]
            await asyncio.sleep(0.5)
            answer = await client.get("/api/v1/me")
            assert answer.status_code == 200
            await client.post(f"/api/v1/runs/{run.id}/cancel")
            await asyncio.wait_for(asyncio.gather(*listeners), 60)

    asyncio.run(listen_and_ask())


@pytest.mark.parametrize(
    "text", [None, "", "x", "1.2.3", "1.2.3.x", "-1.2.3.4", "9" * 30 + ".1.1.1"]
)
def test_a_cursor_that_is_none_starts_anew(text):
    assert Cursor.parse(text) == Cursor()


@pytest.mark.parametrize("cursor", [Cursor(), Cursor(3, 4, 5, 6), Cursor(3, None, 5, 6)])
def test_a_cursor_survives_the_wire(cursor):
    assert Cursor.parse(str(cursor)) == cursor
    assert json.dumps(str(cursor))
