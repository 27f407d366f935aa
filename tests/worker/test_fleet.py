"""Slots that are set aside, and taken up again by an administrator."""

import socket

from domain.presets import expand
from store import fleet, queue, runs
from store.engine import writing
from tests.store.databases import LEASE, after
from tests.worker.lab import TINY
from tests.worker.test_orphans import register


def lose(connection, owner, at):
    """A run of ``owner`` is lost on the only slot."""
    runs.submit(connection, spec=expand(TINY), owner=owner, now=after(at))
    claim = queue.claim(connection, worker="tests", now=after(at), lease=LEASE)
    assert claim is not None
    queue.requeue(
        connection, claim.run.id, claim.attempt, now=after(at + 1), reason="", max_attempts=1
    )


def quarantine(connection):
    ((slot,),) = [worker.slots for worker in fleet.all_workers(connection)]
    return slot.quarantine


def test_what_was_lost_before_a_release_counts_no_more(engine):
    register(engine, host=socket.gethostname(), pid=4711)
    with writing(engine) as connection:
        for i, owner in enumerate(("ada", "bob", "ada")):
            lose(connection, owner, 100 * i)
        assert quarantine(connection) is not None
        fleet.release(connection, "tests", "cpu", 0, now=after(300))
        for i, owner in enumerate(("bob", "ada", "bob")):
            assert quarantine(connection) is None, i
            lose(connection, owner, 400 + 100 * i)
        assert quarantine(connection) == "the last 3 attempts were lost here, of ada and bob"
