"""What a queued run waits for other than its turn, for a whole list in one look."""

import pytest

from store import queue, runs, waits
from store.engine import reading, writing
from store.tables import needs, slots
from tests.store.databases import NOW, after
from tests.store.making import claimed, host, queued, reads, running


def test_a_list_tells_each_run_what_holds_it(engine):
    with writing(engine) as connection:
        first = running(connection, name="baseline").run
        reads(connection, "w1", ())
        rows = {
            "its turn": queued(connection),
            "follows": queued(connection, after=[first.id]),
            "device": queued(connection, resources={"gpus": 1}),
            "too large": queued(connection, resources={"cpu_slots": 3}),
            "data": queued(connection, data={"dataset": "cifar10"}),
            "folder": queued(
                connection, data={"dataset": "image-folder", "folder": "pets", "classes": 3}
            ),
        }
        paused = queued(connection)
        queue.hold(connection, paused.id, held=True, now=NOW, actor="ada")
    with reading(engine) as connection:
        every = runs.find(connection, limit=50).items
        told = waits.waits(connection, every, after(1))
    said = {name: told[row.id].state for name, row in rows.items() if row.id in told}
    assert said == {
        "follows": f"waits for {first.id}",
        "device": "no such device",
        "too large": "no such device",
        "data": "data missing",
        "folder": "data missing",
    }
    assert told[rows["follows"].id].waits_for == f"run {first.id} (baseline, running) to succeed"
    assert "download cifar10` on the worker's host" in told[rows["data"].id].waits_for
    assert "image folder 'pets'" in told[rows["folder"].id].waits_for
    assert "pets/train/<class>/" in told[rows["folder"].id].waits_for
    assert (told[paused.id].why, told[paused.id].state) == ("paused", "paused")
    assert f"`part resume {paused.id}`" in told[paused.id].waits_for
    assert first.id not in told, "what runs waits for nothing"


def test_a_run_that_follows_many_names_some_and_their_states(sqlite_engine):
    with writing(sqlite_engine) as connection:
        before = [queued(connection, now=after(i)) for i in range(5)]
        queue.hold(connection, before[0].id, held=True, now=NOW, actor="ada")
        run = queued(connection, after=[row.id for row in before], now=after(9))
        told = waits.wait_of(connection, run, after(10))
    assert told is not None
    assert told.state == "waits for 5 runs"
    assert told.waits_for.startswith(f"runs {before[0].id} (paused), {before[1].id} (queued)")
    assert told.waits_for.endswith("and 2 more to succeed")


def test_data_that_comes_lets_the_run_start(engine):
    """Nobody submits anything again; a worker that does not say may have everything."""
    with writing(engine) as connection:
        host(connection)
        reads(connection, "w1", ())
        run = queued(connection, data={"dataset": "svhn"})
        assert claimed(connection) is None
        assert waits.wait_of(connection, run, NOW) is not None
        reads(connection, "w1", ("svhn",))
        assert waits.wait_of(connection, run, NOW) is None
        claim = claimed(connection)
        assert claim is not None
        assert claim.run.id == run.id
        other = queued(connection, data={"dataset": "cifar100"}, resources={"gpus": 1})
        host(connection, "w2", gpu=1)
        assert waits.wait_of(connection, other, NOW) is None
        assert claimed(connection, worker="w2") is not None


def test_a_run_of_missing_data_does_not_hide_the_next_of_its_owner(sqlite_engine):
    """A claim looks at the first run of every owner and needs: its data is one of these."""
    with writing(sqlite_engine) as connection:
        host(connection)
        reads(connection, "w1", ())
        queued(connection, data={"dataset": "svhn"}, priority=5)
        run = queued(connection, now=after(1))
        claim = claimed(connection, now=after(2))
    assert claim is not None
    assert claim.run.id == run.id


def test_without_any_worker_the_word_is_another(sqlite_engine):
    with writing(sqlite_engine) as connection:
        told = waits.wait_of(connection, queued(connection), NOW)
    assert told is not None
    assert (told.why, told.state) == ("no-worker", "no worker")


@pytest.mark.parametrize(("silent", "word"), [(10, None), (120, "no worker")])
def test_a_worker_that_fell_silent_has_nothing(sqlite_engine, silent, word):
    with writing(sqlite_engine) as connection:
        host(connection)
        told = waits.wait_of(connection, queued(connection), after(silent))
    assert (told and told.state) == word


def test_a_slot_in_quarantine_is_a_device_set_aside(sqlite_engine):
    with writing(sqlite_engine) as connection:
        host(connection)
        connection.execute(slots.update().values(quarantine="three lost"))
        told = waits.wait_of(connection, queued(connection), NOW)
        assert told is not None
        assert told.state == "device set aside"
        connection.execute(slots.update().values(quarantine=None))
        running_there = claimed(connection)
        assert running_there is not None
        connection.execute(slots.update().values(quarantine="three lost"))
        assert waits.wait_of(connection, queued(connection), NOW) is None, "it may yet be freed"


def test_needs_of_one_kind_and_data_are_one_row(sqlite_engine):
    with writing(sqlite_engine) as connection:
        for dataset in ("digits", "svhn", "svhn", "digits", "cifar10"):
            queued(connection, data={"dataset": dataset})
        rows = connection.execute(needs.select().order_by(needs.c.id)).all()
    cpu = [row.data for row in rows if (row.kind, row.slots) == ("cpu", 1)]
    assert sorted(cpu) == ["", "cifar10", "svhn"]
