"""What can go wrong. Each fault happens at once; some are undone later."""

import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from random import Random
from subprocess import Popen

import redis
import sqlalchemy as sa
from celery import Celery
from celery.utils.nodenames import worker_direct
from sqlalchemy.exc import DBAPIError

from partlab.errors import ClientError, Refused
from store.calls import call_workers
from store.engine import reading
from store.tables import runs
from tests.chaos.lab import WORKERS, Lab

Undo = Callable[[], None]
ANSWER_SECONDS = 60.0
"""Within which the API, once it is there again, has answered."""


def nothing() -> None:
    """What is over at once needs no undoing."""


def kill_child(lab: Lab, rng: Random) -> Undo:
    """SIGKILL one child, and none of what it forked."""
    for process in rng.sample(children := lab.left(), k=len(children)):
        if process.leads:
            _signal(process.pid, signal.SIGKILL)
            break
    return nothing


def kill_worker(lab: Lab, rng: Random) -> Undo:
    """SIGKILL a worker, and with it the supervisors, which are its threads; start it again."""
    name = rng.choice(WORKERS)
    lab.workers[name].kill()
    lab.workers[name].wait()
    return lambda: lab.start_worker(name)


def restart_worker(lab: Lab, rng: Random) -> Undo:
    """SIGTERM, as an operator restarts a worker: Celery's warm shutdown."""
    return _restart(lab, rng.choice(WORKERS), signal.SIGTERM)


def restart_worker_cold(lab: Lab, rng: Random) -> Undo:
    """SIGQUIT: Celery's cold shutdown."""
    return _restart(lab, rng.choice(WORKERS), signal.SIGQUIT)


def _restart(lab: Lab, name: str, number: signal.Signals) -> Undo:
    process = lab.workers[name]  # by the undoing another may have its name
    process.send_signal(number)
    lab.stopping[process.pid] = (name, time.monotonic())

    def undo() -> None:
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=60)
        finally:
            lab.stopping.pop(process.pid, None)
            process.kill()
        lab.start_worker(name)

    return undo


def kill_api(lab: Lab, _: Random) -> Undo:
    """SIGKILL the API."""
    assert lab.api is not None
    lab.api.kill()
    lab.api.wait()
    return lab.start_api


def freeze_child(lab: Lab, rng: Random) -> Undo:
    """SIGSTOP a child; SIGCONT later."""
    children = [p.pid for p in lab.left() if p.leads]
    return _freeze(rng.sample(children, k=min(1, len(children))))


def freeze_worker(lab: Lab, rng: Random) -> Undo:
    """SIGSTOP a worker; SIGCONT later, when it may own nothing any more."""
    return _freeze([lab.workers[rng.choice(WORKERS)].pid])


def freeze_host(lab: Lab, rng: Random) -> Undo:
    """SIGSTOP a worker and its children: a machine that sleeps."""
    name = rng.choice(WORKERS)
    children = [p.pid for p in lab.left() if p.host == name]
    return _freeze([lab.workers[name].pid, *children])


def _freeze(pids: list[int]) -> Undo:
    for pid in pids:
        _signal(pid, signal.SIGSTOP)

    def undo() -> None:
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    return undo


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def stop_broker(lab: Lab, _: Random) -> Undo:
    """Kill the broker; start it again on the same port."""
    assert lab.broker is not None
    lab.broker.kill()
    lab.broker.wait()
    return lab.start_broker


def flush_broker(lab: Lab, _: Random) -> Undo:
    """FLUSHALL."""
    with suppress(redis.ConnectionError), redis.Redis.from_url(lab.broker_url) as client:
        client.flushall()
    return nothing


@contextmanager
def _celery(lab: Lab) -> Iterator[Celery]:
    """Celery's tools; what they cannot do while the broker is away is left undone."""
    with Celery("chaos", broker=lab.broker_url, set_as_current=False) as app:
        app.conf.broker_transport_options = {"socket_connect_timeout": 1, "max_retries": 0}
        with suppress(Exception):
            yield app


def wake_a_hundred_times(lab: Lab, _: Random) -> Undo:
    """A hundred calls to all workers, for every run there is and some that are not."""
    with _celery(lab) as app:
        runs = [run_id for run_id, _, _ in _unfinished(lab)]
        for _ in range(100):
            call_workers(app, [*runs, "0" * 18])
    return nothing


def double_messages(lab: Lab, rng: Random) -> Undo:
    """Send every worker the messages of all unfinished runs again, some of them late."""
    with _celery(lab) as app:
        for run_id, state, attempt in _unfinished(lab):
            following = attempt + (state == "queued")
            for name in WORKERS:
                for number in (following, following, following + 1):
                    app.send_task(
                        "partlab.run_attempt",
                        [run_id, number, []],
                        queue=worker_direct(f"celery@{name}"),
                        countdown=rng.choice((None, None, rng.uniform(0.2, 2.0))),
                        retry=False,
                        ignore_result=True,
                    )
    return nothing


def purge_queues(lab: Lab, _: Random) -> Undo:
    """Throw away the messages that wait in the workers' own queues."""
    names = [worker_direct(f"celery@{name}").name for name in WORKERS]
    with suppress(redis.ConnectionError), redis.Redis.from_url(lab.broker_url) as client:
        client.delete(*names)
    return nothing


def _unfinished(lab: Lab) -> list[tuple[str, str, int]]:
    """Return id, state and attempt of each; none while the database is away."""
    query = sa.select(runs.c.id, runs.c.state, runs.c.attempt).where(runs.c.finished_at.is_(None))
    with suppress(DBAPIError), reading(lab.engine) as connection:
        return [tuple(row) for row in connection.execute(query)]
    return []


def stop_database(lab: Lab, _: Random) -> Undo:
    """Crash PostgreSQL and start it again; on SQLite, another program holds the lock."""
    if lab.postgres is not None:
        lab.crash_database()
        return lab.start_database
    connection = sqlite3.connect(
        str(lab.engine.url.database), timeout=2, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:  # who froze with the lock keeps it: the database is away
        connection.close()
        return nothing
    return connection.close


def second_worker_of_one_name(lab: Lab, rng: Random) -> Undo:
    """Start a second worker under a name; later end it, gently or not."""
    name, gently = rng.choice(WORKERS), rng.random() < 0.5
    key = f"{name}-again"
    lab.start_worker(name, key=key)

    def undo() -> None:
        _end(lab.workers.pop(key), gently=gently)

    return undo


def _end(process: Popen[bytes], *, gently: bool) -> None:
    if gently:
        process.terminate()
    else:
        process.kill()
    process.wait(timeout=30)


def step_clock(lab: Lab, rng: Random) -> Undo:
    """Step a worker's clock by five minutes, one way or the other."""
    file = lab.clock(rng.choice(WORKERS))
    file.write_text(rng.choice(("300", "-300")))
    return lambda: file.unlink(missing_ok=True)


def fill_disk(lab: Lab, rng: Random) -> Undo:
    """A worker, and whatever it starts, can lengthen no file."""
    name = rng.choice(WORKERS)
    pid = lab.workers[name].pid
    with suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))

    def undo() -> None:
        for process in [pid, *(p.pid for p in lab.left() if p.host == name)]:
            with suppress(ProcessLookupError):
                _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
                resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))

    return undo


def take_artifacts_away(lab: Lab, _: Random) -> Undo:
    """The artifact store takes and gives nothing: a file stands where its folder was."""
    aside = lab.folder / "artifacts.aside"
    if aside.exists():
        return nothing
    lab.artifacts.rename(aside)
    lab.artifacts.write_text("no folder")

    def undo() -> None:
        lab.artifacts.unlink()
        aside.rename(lab.artifacts)

    return undo


def cancel_a_run(lab: Lab, rng: Random) -> Undo:
    """Cancel a run through the API, which may be away."""
    return _ask(lab, rng, "cancel")


def pause_a_run(lab: Lab, rng: Random) -> Undo:
    """Pause a run; let it go on later."""
    return _ask(lab, rng, "pause", "resume")


def _ask(lab: Lab, rng: Random, what: str, then: str | None = None) -> Undo:
    asked: list[str] = []

    def ask() -> None:
        with suppress(ClientError), lab.client() as client:
            if going := [run for run in client.runs() if run.finished_at is None]:
                asked.append(rng.choice(going).id)
                getattr(client, what)(asked[0])

    def answer() -> None:
        first.join()
        for run_id in asked if then else []:
            _insist(lab, str(then), run_id)

    first = lab.errand(ask)
    return lambda: None if then is None else _forget(lab.errand(answer))


def _insist(lab: Lab, what: str, run_id: str) -> None:
    """Ask until the lab has answered, if only that the run is over: a pause has to end."""
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        try:
            with lab.client() as client:
                getattr(client, what)(run_id)
        except Refused as refusal:
            if refusal.status < 500:
                return
        except ClientError:
            time.sleep(0.2)
        else:
            return


def _forget(_: object) -> None: ...


FAULTS: Mapping[str, Callable[[Lab, Random], Undo]] = {
    "kill child": kill_child,
    "kill worker": kill_worker,
    "restart worker": restart_worker,
    "restart worker cold": restart_worker_cold,
    "kill api": kill_api,
    "freeze child": freeze_child,
    "freeze worker": freeze_worker,
    "freeze host": freeze_host,
    "broker away": stop_broker,
    "flush broker": flush_broker,
    "100 wakes": wake_a_hundred_times,
    "doubled messages": double_messages,
    "purge queues": purge_queues,
    "database away": stop_database,
    "second worker": second_worker_of_one_name,
    "clock step": step_clock,
    "disk full": fill_disk,
    "artifacts away": take_artifacts_away,
    "cancel": cancel_a_run,
    "pause": pause_a_run,
}
