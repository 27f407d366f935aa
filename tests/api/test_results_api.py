import base64
import hashlib
import math

import pytest

from api.downloads import byte_range
from api.problems import RangeUnsatisfiable
from store import runs
from store.engine import writing
from tests.api.lab import evaluation, judged
from tests.api.test_submission import refused

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def run(lab):
    return lab.start()


@pytest.fixture(scope="module")
def file(lab, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    artifact_id = lab.keep_file(run, "checkpoints/last.safetensors", CONTENT, folder, role="last")
    return f"/api/v1/runs/{run.id}/artifacts/{artifact_id}/content"


def test_numbers_json_does_not_know_are_spelled(lab, run):
    ada, path = lab.client(), f"/api/v1/runs/{run.id}"
    odd = [1.0, math.nan, math.inf, -math.inf, 0.5]
    lab.measure(run, 0, [0, 1, 2, 3, 4], train_loss=odd, val_accuracy=[math.nan] * 5)
    series = {s["name"]: s for s in ada.get(f"{path}/metrics").json()["items"]}
    assert (series["train/loss"]["count"], series["train/loss"]["last"]) == (5, 0.5)
    assert series["train/loss"]["maximum"] == "Infinity"
    assert series["val/accuracy"]["last"] == "NaN"
    history = ada.get(f"{path}/metrics/history", params={"name": ["train/loss", "no/such"]})
    told = history.json()["series"]
    assert told["train/loss"]["steps"] == [0, 1, 2, 3, 4]
    assert told["train/loss"]["values"] == [1.0, "NaN", "Infinity", "-Infinity", 0.5]
    assert told["no/such"] == {"steps": [], "values": []}


def test_a_long_series_is_thinned_and_keeps_its_spike(lab):
    run = lab.start()
    values = [0.0] * 5000
    values[3141] = 9.0
    lab.measure(run, 0, list(range(5000)), train_loss=values)
    path = f"/api/v1/runs/{run.id}/metrics/history?name=train/loss&max_points=100"
    told = lab.client().get(path).json()["series"]["train/loss"]
    assert len(told["steps"]) <= 110
    assert told["steps"][told["values"].index(9.0)] == 3141


@pytest.mark.parametrize("query", ["", "name=", "name=a&max_points=1", "name=%00"])
def test_a_bad_history_request_is_refused(lab, run, query):
    answer = lab.client().get(f"/api/v1/runs/{run.id}/metrics/history?{query}")
    refused(answer, 422, "request-invalid")


def test_a_summary_with_odd_numbers_survives(sqlite_lab):
    run = sqlite_lab.start()
    with writing(sqlite_lab.engine) as c:
        runs.record_summary(c, run.id, run.attempt, {"worst": math.nan, "list": [math.inf]})
    told = sqlite_lab.client().get(f"/api/v1/runs/{run.id}").json()["summary"]
    assert told == {"worst": "NaN", "list": ["Infinity"]}


def test_logs_are_tailed_and_followed(lab):
    run, ada = lab.start(), lab.client()
    path = f"/api/v1/runs/{run.id}/logs"
    assert ada.get(path).json() == {"items": [], "next_after": None}
    lab.log(run, *(f"line {i}" for i in range(10)))
    last = ada.get(path, params={"limit": 3}).json()
    assert [line["message"] for line in last["items"]] == ["line 7", "line 8", "line 9"]
    nothing = ada.get(path, params={"after": last["next_after"]}).json()
    assert nothing == {"items": [], "next_after": last["next_after"]}
    lab.log(run, "more", level="warning")
    (line,) = ada.get(path, params={"after": last["next_after"]}).json()["items"]
    assert (line["message"], line["level"], line["attempt"]) == ("more", "warning", 1)


def test_a_download_is_whole_and_carries_its_hash(lab, file, run):
    answer = lab.client().get(file)
    assert answer.content == CONTENT
    sha256 = hashlib.sha256(CONTENT)
    digest = base64.b64encode(sha256.digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["etag"] == f'"{sha256.hexdigest()}"'
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'attachment; filename="last.safetensors"'
    assert "sandbox" in answer.headers["content-security-policy"]
    (listed,) = lab.client().get(f"/api/v1/runs/{run.id}/artifacts").json()["items"]
    assert (listed["sha256"], listed["size"]) == (sha256.hexdigest(), len(CONTENT))
    assert "key" not in listed


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-", 10_000, len(CONTENT)),
        ("bytes=-100", len(CONTENT) - 100, len(CONTENT)),
        ("bytes=-999999", 0, len(CONTENT)),
        ("bytes=10200-99999", 10_200, len(CONTENT)),
    ],
)
def test_a_range_is_answered_with_its_bytes(lab, file, asked, start, end):
    answer = lab.client().get(file, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_beyond_the_file_is_416(lab, file, asked):
    answer = lab.client().get(file, headers={"Range": asked})
    refused(answer, 416, "range-unsatisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "items=0-1", "bytes=-", "bytes=5-2", "x"])
def test_any_other_range_gets_the_whole_file(lab, file, asked):
    answer = lab.client().get(file, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


def test_a_resumed_download_is_of_the_same_file(lab, file):
    tag = lab.client().get(file).headers["etag"]
    same = lab.client().get(file, headers={"Range": "bytes=5-", "If-Range": tag})
    assert same.status_code == 206
    other = lab.client().get(file, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, CONTENT)
    assert lab.client().get(file, headers={"If-None-Match": tag}).status_code == 304


def test_an_empty_file_has_no_range():
    assert byte_range(None, 0) is None
    with pytest.raises(RangeUnsatisfiable):
        byte_range("bytes=0-", 0)


def test_pictures_are_shown_and_everything_else_is_saved(lab, run, tmp_path):
    picture = lab.keep_file(
        run, "figures/a.png", b"\x89PNG", tmp_path, kind="figure", media_type="image/png"
    )
    page = lab.keep_file(
        run, 'x";\n.html', b"<script>", tmp_path, kind="table", media_type="text/html"
    )
    path = f"/api/v1/runs/{run.id}/artifacts"
    shown = lab.client().get(f"{path}/{picture}/content").headers["content-disposition"]
    assert shown == 'inline; filename="a.png"'
    saved = lab.client().get(f"{path}/{page}/content").headers["content-disposition"]
    assert saved == 'attachment; filename="x___.html"'


def test_a_file_whose_bytes_are_gone_is_404_and_tells_no_key(lab, run, tmp_path):
    gone = lab.keep_file(run, "weights/gone", b"x", tmp_path, kind="weights")
    for blob in (lab.settings.state_folder / "artifacts" / run.id).rglob("*"):
        if blob.is_file() and blob.read_bytes() == b"x":
            blob.unlink()
    answer = lab.client().get(f"/api/v1/runs/{run.id}/artifacts/{gone}/content")
    assert gone in refused(answer, 404, "not-found")["detail"]


def test_a_file_of_another_run_is_not_found(lab, file):
    other = lab.submit()
    path = file.split("/")
    path[4] = other.id
    refused(lab.client().get("/".join(path)), 404, "not-found")


def test_an_evaluation_comes_with_every_attack_and_check(lab, run):
    lab.evaluate(run, evaluation())
    (told,) = lab.client().get(f"/api/v1/runs/{run.id}/evaluations").json()["items"]
    assert told["verdict"] == "sound"
    record = told["record"]
    assert [r["label"] for r in record["results"]][:2] == ["clean", "fgsm"]
    assert record["worst_case"]["interval"]["low"] < record["worst_case"]["accuracy"]
    assert {check["outcome"] for check in record["audit"]["checks"]} == {"holds", "does-not-apply"}


def test_an_evaluation_is_audited_again_by_todays_rules(lab):
    run = lab.start()
    path = f"/api/v1/runs/{run.id}/audit"
    assert lab.client().get(path).json()["items"] == []
    lab.evaluate(run, judged())
    (report,) = lab.client().get(path).json()["items"]
    assert report["verdict"] == "sound"
    outcomes = {check["name"]: check["outcome"] for check in report["checks"]}
    assert outcomes["union-exact"] == outcomes["held-out"] == "holds"
    assert outcomes["deterministic"] == "does-not-apply"
    lab.evaluate(run, evaluation("suspicious", fails=True))  # stored before facts were
    (report,) = lab.client().get(path).json()["items"]
    assert report["verdict"] == "suspicious"
    refused(lab.client().get("/api/v1/runs/000000000000000000/audit"), 404, "not-found")


def test_two_runs_are_paired_image_by_image(lab):
    one, other, without = lab.start(), lab.start(), lab.start()
    lab.evaluate(one, judged(219))
    lab.evaluate(other, judged(190))
    path = f"/api/v1/runs/{one.id}/comparison"
    told = lab.client().get(f"{path}/{other.id}").json()
    found = {d["label"]: d for d in told["differences"]}
    assert found["worst-case"]["only_here"] == 29
    assert found["worst-case"]["only_there"] == 0
    assert found["worst-case"]["interval"]["low"] > 0
    assert found["clean"]["difference"] == 0
    assert told["warnings"] == []
    refused(lab.client().get(f"{path}/{without.id}"), 404, "not-found")


def test_other_threat_models_are_compared_only_by_force(lab):
    one, other = lab.start(), lab.start()
    lab.evaluate(one, judged(epsilon="8/255"))
    lab.evaluate(other, judged(epsilon="0.031"))
    path = f"/api/v1/runs/{one.id}/comparison/{other.id}"
    refused(lab.client().get(path), 409, "incomparable")
    told = lab.client().get(path, params={"force": "true"}).json()
    assert "linf 8/255 and linf 31/1000" in told["warnings"][0]
