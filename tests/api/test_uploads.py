"""Weights from elsewhere: what is sound is kept, and of anything else nothing is left."""

import hashlib
import http.client
import pickle
import struct
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from store import checkpoints
from store.engine import reading
from tests import making_weights as making
from tests.api.lab import LiveLab, live_lab
from tests.api.test_submission import refused

PATH = "/api/v1/checkpoints"
MARK = "partlab-was-executed"


def post(client, raw: bytes, **query: str):
    return client.post(PATH, params={"model": "small-cnn", **query}, content=raw)


def left(lab: LiveLab) -> tuple[list[Path], int]:
    """Every file of the lab's state folder but the database's own, and the rows."""
    state = lab.settings.state_folder
    files = sorted(p for p in state.rglob("*") if p.is_file() and "sqlite3" not in p.name)
    with reading(lab.engine) as connection:
        return files, len(checkpoints.listing(connection))


def test_sound_weights_are_kept_and_listed(lab):
    ada, raw = lab.client(), making.file()
    answer = post(ada, raw, name="from the paper")
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert answer.headers["location"] == f"{PATH}/{found['id']}"
    assert (found["model"], found["channels"], found["classes"]) == ("small-cnn", 1, 10)
    assert (found["sha256"], found["size"]) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert ada.get(answer.headers["location"]).json() == found
    assert found in lab.client("eve").get(PATH).json()["items"]
    with reading(lab.engine) as connection:
        key = checkpoints.get(connection, found["id"]).key
    with lab.blobs.open(key) as stored:
        assert stored.read() == raw


def test_the_same_file_again_is_the_same_checkpoint(lab):
    ada, raw = lab.client(), making.file(prefix="model/")
    first, again = post(ada, raw), post(ada, raw)
    assert first.json()["id"] == again.json()["id"]
    assert post(lab.client("bob"), raw).json()["id"] != first.json()["id"]


class Executed:
    def __reduce__(self):
        return (eval, (f"open('/tmp/{MARK}', 'w')",))


def lying() -> bytes:
    held = making.tensors()
    told = making.header(held)
    told["head.linear.bias"]["data_offsets"][1] += 4
    return making.packed(told, making.content(held))


def poisoned(value: float) -> bytes:
    held = making.tensors()
    dtype, shape, raw = held["head.linear.weight"]
    held["head.linear.weight"] = (dtype, shape, raw[:-4] + struct.pack("<f", value))
    return making.file(held)


def negative() -> bytes:
    held = making.tensors()
    name = next(n for n in held if n.endswith("running_var"))
    dtype, shape, raw = held[name]
    held[name] = (dtype, shape, struct.pack("<f", -1.0) + raw[4:])
    return making.file(held)


BAD = {
    "a pickle": (pickle.dumps(Executed()), "no safetensors file"),
    "nothing": (b"", "no safetensors file"),
    "truncated": (making.file()[:-1000], "bytes of tensors"),
    "lying": (lying(), "head.linear.bias"),
    "NaN": (poisoned(float("nan")), "head.linear.weight holds NaN or infinity"),
    "infinite": (poisoned(float("-inf")), "head.linear.weight holds NaN or infinity"),
    "negative variance": (negative(), "running_var is negative"),
    "another network": (making.file(model="preact-resnet18", channels=3), "no small-cnn; missing"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_and_leaves_nothing(lab, kind):
    raw, reason = BAD[kind]
    before = left(lab)
    problem = refused(post(lab.client(), raw), 422, "checkpoint-refused")
    assert reason in problem["detail"]
    assert left(lab) == before
    assert not Path(f"/tmp/{MARK}").exists()


def test_an_unknown_network_is_told_what_is_known(lab):
    problem = refused(post(lab.client(), making.file(), model="vgg"), 422, "checkpoint-refused")
    assert (
        "allowed: small-cnn, resnet18, preact-resnet18, wrn-28-10, wrn-34-10" in problem["detail"]
    )


def test_a_network_must_be_named(lab):
    refused(lab.client().post(PATH, content=making.file()), 422, "request-invalid")


def test_a_viewer_uploads_nothing(lab):
    refused(post(lab.client("eve"), making.file()), 403, "not-permitted")
    refused(post(lab.client(None), making.file()), 401, "unauthenticated")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A lab that takes files of 100 kB at most."""
    with live_lab("sqlite", tmp_path_factory.mktemp("lab"), max_upload_bytes=100_000) as made:
        yield made


def blocks(count: int):
    for _ in range(count):
        yield bytes(10_000)


def test_a_file_too_large_is_refused_by_the_length_it_tells(narrow):
    problem = refused(post(narrow.client(), bytes(100_001)), 413, "body-too-large")
    assert "100,000" in problem["detail"]


def test_and_by_the_length_it_has(narrow):
    """A body in chunks tells no length."""
    before = left(narrow)
    refused(post(narrow.client(), blocks(11)), 413, "body-too-large")
    assert left(narrow) == before


def test_other_bodies_stay_short(narrow):
    answer = narrow.client().post("/api/v1/runs", content=bytes(1_100_000))
    refused(answer, 413, "body-too-large")


def test_a_client_that_hangs_up_leaves_nothing(lab):
    before = left(lab)
    where = urlsplit(lab.url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    connection.putrequest("POST", f"{PATH}?model=small-cnn")
    connection.putheader("Authorization", f"Bearer {lab.tokens['ada']}")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(bytes(500_000))
    connection.close()
    time.sleep(0.2)
    assert lab.client().get(PATH).status_code == 200
    assert left(lab) == before


def test_a_store_without_space_is_told_and_left_as_it_was(lab, monkeypatch):
    import errno

    before = left(lab)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("store.blobs.shutil.copyfileobj", full)
    raw = making.file(classes=9)
    problem = refused(post(lab.client(), raw), 507, "disk-full")
    assert "no space" in problem["detail"]
    assert left(lab) == before


# What an upload is for


def evaluate(checkpoint: str, **over):
    body = {"kind": "evaluate", "source": {"checkpoint": checkpoint}}
    return {**body, "data": {"dataset": "digits"}, **over}


def test_an_upload_is_evaluated_and_drawn(lab):
    ada = lab.client()
    uploaded = post(ada, making.file()).json()["id"]
    spec = ada.post("/api/v1/runs", json=evaluate(uploaded)).json()["spec"]
    assert spec["model"] == {"name": "small-cnn"}
    assert spec["evaluation"]["epsilon"] == "51/255"
    drawn = ada.post("/api/v1/runs", json=evaluate(uploaded, kind="visualise"))
    assert drawn.json()["spec"]["epsilon_high"] == "51/255"
    suite = evaluate(uploaded, evaluation={"suite": "report"})
    spec = ada.post("/api/v1/specs/expand", json=suite).json()
    assert spec["evaluation"]["attacks"][-1]["kind"] == "autoattack"


WRONG = [
    ({"data": {}}, "/data/dataset", "digits, cifar10"),
    ({"data": {"dataset": "cifar10"}}, "/data", "the checkpoint is for 1 and 10"),
    (
        {"model": {"name": "resnet18"}, "data": {"dataset": "cifar10"}},
        "/model",
        "a small-cnn; leave `model` out",
    ),
    ({"source": {"checkpoint": "0" * 18}}, "/source/checkpoint", "no checkpoint"),
    ({"source": {"checkpoint": "../../etc/passwd"}}, "/source/checkpoint", "no checkpoint"),
    ({"source": {"checkpoint": "a\x00"}}, "/source/checkpoint", "no checkpoint"),
    ({"source": {"checkpoint": 7}}, "/source/run", "`checkpoint`"),
    ({"source": {}}, "/source/run", "`checkpoint`"),
]


@pytest.mark.parametrize(("over", "pointer", "reason"), WRONG)
def test_what_does_not_go_with_an_upload_is_named(lab, over, pointer, reason):
    ada = lab.client()
    uploaded = post(ada, making.file()).json()["id"]
    problem = refused(
        ada.post("/api/v1/runs", json=evaluate(uploaded, **over)), 422, "spec-invalid"
    )
    told = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert reason in told[pointer]


def test_a_run_and_an_upload_at_once_are_refused(lab):
    ada = lab.client()
    uploaded = post(ada, making.file()).json()["id"]
    run = lab.start()
    lab.finish(run)
    both = {"source": {"checkpoint": uploaded, "run": run.id}}
    refused(ada.post("/api/v1/runs", json=evaluate(uploaded, **both)), 422, "spec-invalid")
