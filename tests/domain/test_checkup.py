"""Every rule of `part doctor`: silent on a lab that is well, and right about one that is not."""

from dataclasses import replace

import pytest

from domain.checkup import Api, Disk, Host, Rows, Schema, Shut, Store, findings, worst

GIB = 1 << 30
SCHEMA = Schema("PostgreSQL", "0004", "0004")
ROOM = Disk(50 * GIB, 100 * GIB)
ADA = Host("ada", 2.0, has_left=False, clock_skew=0.1, disk=ROOM, orphans=0, store=Store("one", ""))
BOB = replace(ADA, name="bob", clock_skew=-0.2)
ROWS = Rows(
    hosts=(ADA, BOB),
    shut=(),
    reaper_silent=1.0,
    overdue=(),
    unleased=(),
    leased=(),
    cancelling=(),
    miscounted=(),
    unmet=(),
    waiting=3,
)
STORE = Store("one", "")
API = Api(clock_skew=0.0, disk=ROOM, broker="", store=STORE)
LOW, FULL = Disk(5 * GIB, 100 * GIB), Disk(GIB, 100 * GIB)


def hosts(**over):
    return {"hosts": (ADA, replace(BOB, **over))}


WRONG = {
    "a worker is silent": (hosts(silent_seconds=7200), {}, "workers", "warn", "silent for 2 h"),
    "all are silent": (
        {"hosts": (replace(ADA, silent_seconds=90),)},
        {},
        "workers",
        "fail",
        "none is at work, 3 runs in the queue",
    ),
    "there never was a worker": ({"hosts": ()}, {}, "workers", "fail", "none is at work"),
    "a clock is ahead": (hosts(clock_skew=301.0), {}, "clocks", "warn", "bob is 301.0 s ahead"),
    "the API's is behind": ({}, {"clock_skew": -5.0}, "clocks", "warn", "the API is 5.0 s behind"),
    "nobody reaps": ({"reaper_silent": 600.0}, {}, "reaper", "fail", "10 min ago"),
    "nobody ever did": ({"reaper_silent": None}, {}, "reaper", "fail", "never"),
    "a lease is overdue": ({"overdue": ("r1",)}, {}, "rows", "fail", "1 run (r1) hold"),
    "a run has no lease": ({"unleased": ("r1",)}, {}, "rows", "fail", "no lease"),
    "a lease has no run": ({"leased": ("r1",)}, {}, "rows", "fail", "are not running"),
    "a run waits for ghosts": ({"miscounted": ("r1",)}, {}, "rows", "fail", "another number"),
    "cancelling never ends": ({"cancelling": ("r1",)}, {}, "rows", "warn", "cancelling for more"),
    "many": (
        {"overdue": tuple("abcdefg")},
        {},
        "rows",
        "fail",
        "7 runs (a, b, c, d, e, ...) hold",
    ),
    "nobody has it": ({"unmet": ("8 gpu slots",)}, {}, "needs", "warn", "8 gpu slots"),
    "two of one name": (hosts(rival="host-b"), {}, "workers", "warn", "one on host-b stands by"),
    "a store that takes nothing": (
        hosts(store=Store(None, "PermissionError: no")),
        {},
        "artifacts",
        "fail",
        "bob can keep nothing",
    ),
    "another store": (
        hosts(store=Store("two", "")),
        {},
        "artifacts",
        "fail",
        "another store than the API",
    ),
    "the API's store": (
        {},
        {"store": Store(None, "OSError: away")},
        "artifacts",
        "fail",
        "the API can keep nothing",
    ),
    "an old driver": (
        hosts(driver_error="its driver is too old"),
        {},
        "drivers",
        "fail",
        "bob: its driver",
    ),
    "a process will not die": (hosts(orphans=2), {}, "orphans", "warn", "2 processes"),
    "a disk is low": (hosts(disk=LOW), {}, "disk", "warn", "bob has 5.0 GiB of 100.0 GiB"),
    "a disk is full": (hosts(disk=FULL), {}, "disk", "fail", "bob has 1.0 GiB"),
    "artifacts fill it": ({}, {"disk": FULL}, "disk", "fail", "the artifact store has"),
    "no broker answers": ({}, {"broker": "ConnectionError"}, "broker", "warn", "ConnectionError"),
    "there is no broker": ({}, {"broker": None}, "broker", "warn", "none is set"),
    "a slot is in quarantine": (
        {"shut": (Shut("bob", "gpu:1", "quarantine", "three were lost"),)},
        {},
        "slots",
        "warn",
        "bob gpu:1 is given to nobody: three were lost",
    ),
}


def test_a_lab_that_is_well_says_so_in_one_line_a_check():
    found = findings(SCHEMA, ROWS, API)
    assert {finding.level for finding in found} == {"ok"}
    assert worst(found) == "ok"
    checks = [finding.check for finding in found]
    assert len(checks) == len(set(checks)) == 11
    assert not any(finding.advice for finding in found)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_what_to_do(name):
    rows, api, check, level, told = WRONG[name]
    found = findings(SCHEMA, replace(ROWS, **rows), replace(API, **api))
    (bad,) = [finding for finding in found if finding.level == level]
    assert bad.check == check
    assert {f.check for f in found if f.level != "ok"} == {check}
    assert told in bad.told
    assert bad.advice
    assert worst(found) == level


def test_a_quarantine_is_ended_with_the_command_that_is_told():
    shut = Shut("bob", "gpu:1", "quarantine", "three were lost")
    (bad,) = [f for f in findings(SCHEMA, replace(ROWS, shut=(shut,)), API) if f.level != "ok"]
    assert "part admin release bob gpu:1" in bad.advice


def test_the_memory_of_what_is_kept_ready_is_told():
    rows = replace(ROWS, hosts=(replace(ADA, standby_bytes=GIB), BOB))
    (told,) = [f for f in findings(SCHEMA, rows, API) if f.check == "standby"]
    assert (told.level, told.told) == ("ok", "interpreters that are kept ready hold 1.0 GiB on ada")


def test_who_has_left_is_missed_by_nobody():
    gone = replace(
        BOB,
        silent_seconds=1e6,
        has_left=True,
        clock_skew=900.0,
        disk=FULL,
        orphans=3,
        rival="x",
        store=Store("two", ""),
        driver_error="old",
    )
    assert worst(findings(SCHEMA, replace(ROWS, hosts=(ADA, gone)), API)) == "ok"


def test_an_old_schema_is_told_and_nothing_is_read_from_it():
    found = findings(replace(SCHEMA, revision="0003"), None, API)
    assert [(f.check, f.level) for f in found] == [("database", "fail"), ("broker", "ok")]
    assert "schema 0003, this version needs 0004" in found[0].told
    assert "migrations upgrade" in found[0].advice
