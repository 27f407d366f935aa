import hashlib
import threading
import time

import httpx
import pytest

from domain.run_state import RunState
from partlab.client import Client
from partlab.errors import (
    Contradiction,
    DigestMismatch,
    LabFailed,
    NoSuchThing,
    NotAllowed,
    NotSignedIn,
    Overloaded,
    Refused,
    SpecRefused,
    Unreachable,
    UnusableToken,
    UsageError,
)
from partlab.news import Advanced, Ended, Logged, Measured, StateChanged
from partlab.transport import Patience
from tests import making_weights
from tests.api.lab import DIGITS

HURRIED = Patience(attempts=4, sleep=lambda _: None)


def through(proxy, lab, patience=HURRIED) -> Client:
    return Client(proxy.url, lab.tokens["ada"], patience=patience)


def busy(status: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# Runs


def test_a_submission_becomes_a_run_with_the_whole_spec(client):
    run = client.submit({**DIGITS, "name": "mine", "tags": ["a"]})
    assert run.state == RunState.QUEUED
    assert run.spec["method"]["kind"] == "part"
    assert run.title == "mine"
    assert client.get(run.id) == run
    assert client.expand(DIGITS)["training"]["epochs"] == 30


def test_one_key_is_one_run(client):
    first, again = (client.submit(DIGITS, idempotency_key="k-1") for _ in range(2))
    assert first.id == again.id
    with pytest.raises(SpecRefused, match="different body"):
        client.submit({**DIGITS, "seed": 1}, idempotency_key="k-1")


def test_a_wrong_spec_is_refused_with_its_fields(client):
    with pytest.raises(SpecRefused) as refused:
        client.submit({**DIGITS, "method": {"epsilon_high": "8"}})
    (error,) = refused.value.errors
    assert error.pointer == "/method/epsilon_high"
    assert "8/255" in error.detail
    assert refused.value.status == 422


def test_what_json_cannot_hold_is_not_sent(client):
    with pytest.raises(UsageError, match="JSON"):
        client.submit({**DIGITS, "seed": float("nan")})


def test_lists_are_filtered_and_paged(lab, client):
    made = [client.submit({**DIGITS, "experiment": "paging"}).id for _ in range(5)]
    page = client.page(experiment="paging", limit=2)
    assert [r.id for r in page.items] == made[:2:-1]
    assert page.next_cursor is not None
    assert [r.id for r in client.runs(experiment="paging", limit=2)] == made[::-1]
    assert client.page(states=[RunState.FAILED], experiment="paging").items == ()
    assert client.page(owner="bob", experiment="paging").items == ()
    with Client(lab.url, lab.tokens["bob"]) as bob, pytest.raises(NotAllowed, match="belongs"):
        bob.cancel(made[0])


def test_cancel_and_retry(client):
    run = client.submit(DIGITS)
    with pytest.raises(Contradiction, match="queued"):
        client.retry(run.id)
    assert client.cancel(run.id).state == RunState.CANCELLED
    with pytest.raises(Contradiction):
        client.cancel(run.id)
    again = client.retry(run.id)
    assert again.retry_of == run.id
    assert client.position(again.id).ahead >= 0


def test_a_run_is_named_by_any_telling_part_of_its_id(lab, finished, client):
    newest = client.submit(DIGITS)
    assert client.resolve("latest") == newest.id
    assert client.resolve(newest.id) == newest.id
    assert client.resolve(finished.id[:17]) == finished.id
    assert client.resolve(finished.id[-6:].upper()) == finished.id
    with pytest.raises(UsageError, match="any of these runs") as refused:
        client.resolve("01")
    assert newest.id in str(refused.value)
    for unknown in ("zzzzzz", "%", "_", "\u201clatest\u201d"):
        with pytest.raises(UsageError, match="begins or ends"):
            client.resolve(unknown)
    for half in ("\udcff", "run\udc80"):
        with pytest.raises(UsageError, match="UTF-8"):
            client.resolve(half)
    for nothing in ("", " "):
        with pytest.raises(UsageError, match="Name a run"):
            client.resolve(nothing)
    with Client(lab.url, lab.tokens["eve"]) as eve, pytest.raises(UsageError, match="no run yet"):
        eve.resolve("latest")


def test_a_name_means_the_run_that_alone_has_it(client):
    first = client.submit({**DIGITS, "name": "a b+c.d"})
    assert client.resolve("a b+c.d") == first.id
    # A name is not a pattern, and a part of one is no name.
    for other in ("a b", "A B+C.D", "a_b+c.d", "%"):
        with pytest.raises(UsageError, match="No run is named"):
            client.resolve(other)
    second = client.submit({**DIGITS, "name": "a b+c.d"})
    with pytest.raises(UsageError, match="any of these runs") as refused:
        client.resolve("a b+c.d")
    assert {first.id, second.id} <= set(str(refused.value).split())


def test_a_name_comes_before_a_part_of_an_id(client):
    other = client.submit(DIGITS)
    named = client.submit({**DIGITS, "name": other.id[-5:]})
    assert client.resolve(other.id[-5:]) == named.id
    assert client.resolve(other.id[-6:]) == other.id


def test_what_is_no_id_never_becomes_part_of_a_path(client):
    for wrong in ("../me", "", "01kb7qz3h4m8x2v9aP", "a" * 19):
        with pytest.raises(UsageError, match="no id"):
            client.get(wrong)
    with pytest.raises(NoSuchThing, match="no run"):
        client.get("0" * 18)


# What happens in a run


def test_waiting_ends_with_the_run_or_with_the_time(lab, client):
    run = lab.start()
    assert client.wait(run.id, timeout=0.2).state == RunState.RUNNING
    timer = threading.Timer(0.3, lab.finish, (run,))
    timer.start()
    assert client.wait(run.id, timeout=30).state == RunState.SUCCEEDED
    timer.join()
    assert client.wait(run.id).state == RunState.SUCCEEDED


def test_following_tells_everything_once_and_ends(finished, client):
    told = list(client.follow(finished.id))
    lines = [news.line.message for news in told if isinstance(news, Logged)]
    assert lines[:-1] == ["reading the images", "the loss is high"]
    assert lines[-1].startswith("succeeded after ")
    states = [news.event.target for news in told if isinstance(news, StateChanged)]
    assert states == [RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED]
    (measured,) = (news for news in told if isinstance(news, Measured))
    assert measured.series["train/loss"].last == 1.5
    (advanced,) = (news for news in told if isinstance(news, Advanced))
    assert advanced.progress["phase"] == "draw"
    assert isinstance(told[-1], Ended)
    assert told[-1].run.id == finished.id


@pytest.mark.parametrize("cut", [0, 60, 900, 1500, 2500])
def test_following_goes_on_after_a_lost_connection(finished, lab, proxy, client, cut):
    proxy.cuts[:] = [cut, cut + 1]
    with through(proxy, lab) as cut_off:
        assert list(cut_off.follow(finished.id)) == list(client.follow(finished.id))
    assert proxy.connections >= 2


def test_line_separators_inside_a_message_are_part_of_it(lab, client):
    run = lab.start()
    message = "a\u2028b\x85c\u2029d\x0be\nf"
    lab.log(run, message)
    lab.finish(run)
    first, _ = (n.line.message for n in client.follow(run.id) if isinstance(n, Logged))
    assert first == message


def test_following_gives_up_when_the_lab_stays_away():
    slept: list[float] = []
    patience = Patience(sleep=slept.append)
    gone = Client("http://127.0.0.1:9", "t", patience=patience)
    with gone, pytest.raises(Unreachable, match="part up"):
        list(gone.follow("0" * 18, absence=20))
    assert 20 <= sum(slept) < 40


def test_following_does_not_insist_on_what_is_refused(client):
    with pytest.raises(NoSuchThing):
        list(client.follow("0" * 18))


def test_results_logs_metrics_and_events(finished, client):
    (one,) = client.evaluations(finished.id)
    assert one.record.worst_case.correct == 214
    assert one.record.audit.verdict == "suspicious"
    series = {s.name: s for s in client.metrics(finished.id)}
    assert series["val/accuracy"].maximum == 0.9
    points = client.history(finished.id, ["train/loss", "val/accuracy"])
    assert points["train/loss"].steps == (0, 1, 2)
    assert points["train/loss"].values[1] != points["train/loss"].values[1]
    page = client.logs(finished.id, limit=2)
    assert next(line.message for line in page.items) == "the loss is high"
    assert client.logs(finished.id, after=page.next_after).items == ()
    assert [e.target for e in client.events(finished.id)][-1] == RunState.SUCCEEDED


def test_histories_of_many_series_take_several_requests(lab, client):
    run = lab.start()
    names = [f"many/{n}" for n in range(70)]
    lab.measure(run, 0, [0], **{name.replace("/", "_", 1): [1.0] for name in names})
    assert set(client.history(run.id, names)) == set(names)
    assert client.history(run.id, []) == {}


# Downloads


def wanted(client, run, name):
    return next(a for a in client.artifacts(run.id) if a.name == name)


def test_a_download_lands_under_its_name_with_its_hash(finished, client, tmp_path):
    artifact = wanted(client, finished, "weights/final.safetensors")
    seen: list[int] = []
    file = client.download(artifact, tmp_path, report=seen.append)
    assert file == tmp_path / "weights" / "final.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.sha256
    assert seen[-1] == artifact.size == file.stat().st_size
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert client.download(artifact, tmp_path, report=seen.append) == file
    assert seen[-1] == artifact.size


@pytest.mark.parametrize("cut", [300, 5_000, 200_000])
def test_a_download_goes_on_where_it_was_cut_off(finished, lab, proxy, client, tmp_path, cut):
    artifact = wanted(client, finished, "weights/final.safetensors")
    proxy.cuts[:] = [cut, cut, cut]
    with through(proxy, lab) as cut_off:
        file = cut_off.fetch(artifact, tmp_path / "w")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.sha256


def test_a_part_of_an_earlier_download_is_used(finished, lab, proxy, client, tmp_path):
    artifact = wanted(client, finished, "weights/final.safetensors")
    whole = client.fetch(artifact, tmp_path / "whole").read_bytes()
    (tmp_path / f"w.{artifact.sha256[:8]}.part").write_bytes(whole[:340_000])
    proxy.cuts[:] = [12_000]  # ten thousand bytes and the headers are enough for the rest
    with through(proxy, lab, Patience(attempts=1)) as rest:
        assert rest.fetch(artifact, tmp_path / "w").read_bytes() == whole


def test_wrong_bytes_are_thrown_away(finished, client, tmp_path):
    artifact = wanted(client, finished, "weights/final.safetensors")
    part = tmp_path / f"w.{artifact.sha256[:8]}.part"
    part.write_bytes(b"x" * artifact.size)
    with pytest.raises(DigestMismatch, match="discarded"):
        client.fetch(artifact, tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_download_ends_when_the_network_does_not_come_back(
    finished, lab, proxy, client, tmp_path
):
    artifact = wanted(client, finished, "weights/final.safetensors")
    proxy.cuts[:] = [0] * 50
    with through(proxy, lab) as cut_off, pytest.raises(Unreachable):
        cut_off.fetch(artifact, tmp_path / "w")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", ".", "a/../../evil"])
def test_no_name_leads_out_of_the_folder(finished, client, tmp_path, name):
    artifact = wanted(client, finished, "figures/budget.png").model_copy(update={"name": name})
    with pytest.raises(UsageError, match="leads out"):
        client.download(artifact, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_missing_file_is_told(finished, client, tmp_path):
    artifact = wanted(client, finished, "figures/budget.png").model_copy(update={"id": "0" * 18})
    with pytest.raises(NoSuchThing):
        client.fetch(artifact, tmp_path / "w")


# The lab, and who may


@pytest.mark.usefixtures("finished")
def test_the_lab_shows_itself(client):
    assert client.me().name == "ada"
    assert client.queue().cpu_slots == 100
    assert client.workers()[0].slots[0].device_name == "a test CPU"
    assert "part++" in client.catalog().presets


def test_administrators_make_users_and_tokens(lab, client):
    with Client(lab.url, lab.tokens["root"]) as root:
        assert root.create_user("zoe", "viewer").role == "viewer"
        with pytest.raises(Contradiction):
            root.create_user("zoe")
        issued = root.issue_token("zoe", label="laptop")
        with Client(lab.url, issued.secret) as zoe:
            assert zoe.me().name == "zoe"
            with pytest.raises(NotAllowed):
                zoe.submit(DIGITS)
            (token,) = (t for t in root.tokens() if t.user_name == "zoe")
            root.revoke_token(token.id)
            with pytest.raises(NotSignedIn):
                zoe.me()
    with pytest.raises(NotAllowed, match="admin"):
        client.tokens()


def test_without_a_token_nothing_is_told(lab):
    with Client(lab.url) as nobody, pytest.raises(NotSignedIn):
        nobody.queue()


# A network and a lab that fail


def test_reads_and_submissions_are_repeated_over_a_bad_network(lab, proxy, client):
    proxy.cuts[:] = [0, 10, 50]
    with through(proxy, lab) as shaky:
        assert shaky.me().name == "ada"
    proxy.cuts[:] = [0, 10, 50]
    with through(proxy, lab) as shaky:
        run = shaky.submit({**DIGITS, "experiment": "shaky"})
    assert [r.id for r in client.runs(experiment="shaky")] == [run.id]


def test_what_may_happen_only_once_is_not_repeated(lab, proxy, client):
    run = client.submit({**DIGITS, "experiment": "once"})
    client.cancel(run.id)
    proxy.cuts[:] = [10]
    with through(proxy, lab) as shaky, pytest.raises(Unreachable):
        shaky.retry(run.id)
    assert proxy.connections == 1


def test_a_busy_lab_is_asked_again_after_the_time_it_names(lab, proxy):
    slept: list[float] = []
    proxy.answers[:] = [busy("429 Too Many Requests", "Retry-After: 7"), busy("503 Unavailable")]
    with through(proxy, lab, Patience(sleep=slept.append)) as patient:
        assert patient.me().name == "ada"
    assert slept == [7.0, 0.5]


def test_a_lab_that_stays_busy_is_told(lab, proxy):
    proxy.answers[:] = [busy("503 Unavailable")] * 4
    with through(proxy, lab) as patient, pytest.raises(Overloaded, match="503"):
        patient.me()
    proxy.answers[:] = [busy("500 Oops")]
    with through(proxy, lab) as patient, pytest.raises(LabFailed, match="500"):
        patient.me()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_stranger_on_the_port_is_told(lab, proxy, answer):
    proxy.answers[:] = [answer]
    with through(proxy, lab) as lost, pytest.raises(Unreachable, match="does not answer like"):
        lost.me()
    proxy.answers[:] = [answer]
    with through(proxy, lab) as lost, pytest.raises(Unreachable, match="does not answer like"):
        lost.expand({})


def test_a_stream_of_another_version_is_told(lab, proxy):
    body = b"event: end\ndata: {}\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    proxy.answers[:] = [head + body]
    with through(proxy, lab) as lost, pytest.raises(Unreachable, match="another version"):
        list(lost.follow("0" * 18))


def test_silence_is_told_as_such(lab):
    held = threading.Event()
    with Client(lab.url, lab.tokens["ada"], timeout=0.2, patience=Patience(attempts=1)) as client:
        original = lab.app.state.lab.reading

        def slow():
            held.wait(5)
            return original()

        object.__setattr__(lab.app.state.lab, "reading", slow)
        try:
            with pytest.raises(Unreachable, match="in time"):
                client.queue()
        finally:
            held.set()
            object.__delattr__(lab.app.state.lab, "reading")
            time.sleep(0.1)


@pytest.mark.parametrize(
    "url",
    [
        "", "lab:8700", "ftp://lab", "file:///etc/passwd", "http://", "http://:8700", "//lab",
        "http://lab:port", "http://lab:99999", "http://lab:-1", "http://[::1", "http://[zz]",
        "http://la b", "http://lab/runs/x", "http://lab?x=1", "http://lab#x",
        "http://ada:s3cret@lab", "http://a\x00b", "http://\udcff", "http://xn--\u00e9", "http://lab\n.evil",
    ],
)  # fmt: skip
def test_what_is_no_address_is_told(url):
    with pytest.raises(Unreachable, match="no address") as refused:
        Client(url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("http://lab:8700/", "http://lab:8700"),
        (" https://lab \n", "https://lab"),
        ("http://[::1]:8700", "http://[::1]:8700"),
        ("http://l\u00e4b", "http://l\u00e4b"),
    ],
)
def test_what_is_an_address_is_used(url, used):
    with Client(url) as client:
        assert client.url == used


@pytest.mark.parametrize(
    "token", ["a\nb", "\u201ctoken\u201d", "a\x00b", "t\u00f6ken", "a b", "\udcff"]
)
def test_a_token_that_cannot_be_one_is_never_repeated(token):
    with pytest.raises(UnusableToken) as refused:
        Client("http://lab", token)
    assert token not in str(refused.value)


def test_blanks_around_a_token_are_no_part_of_it(lab):
    with Client(lab.url, f" {lab.tokens['ada']}\r\n") as client:
        assert client.me().name == "ada"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", "gopher://proxy:s3cret"),
        ("http_proxy", "http://proxy:s3cret"),
        ("ALL_PROXY", "socks9://u:s3cret@proxy"),
        ("SSL_CERT_FILE", "/nowhere/s3cret.pem"),
    ],
)
def test_network_settings_that_cannot_be_used_are_named_and_not_repeated(
    monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=variable) as refused:
        Client("http://lab.invalid")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    # httpcore leaves the socket of a refused handshake to the garbage collector.
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05", b"\x05\xff", b"\x05\x00", b"\x04\x00"],
)
def test_a_socks_proxy_that_is_none_is_told(proxy, monkeypatch, answer):
    monkeypatch.setenv("ALL_PROXY", proxy.url.replace("http:", "socks5:"))
    proxy.answers[:] = [answer] * 2
    with (
        Client("http://lab.invalid", patience=HURRIED) as client,
        pytest.raises(Unreachable, match="ALL_PROXY"),
    ):
        client.me()


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(lab, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with Client(lab.url, lab.tokens["ada"], patience=HURRIED) as client:
        assert client.me().name == "ada"
    with pytest.raises(httpx.ConnectError):
        httpx.get(lab.url)


# Weights from elsewhere


def test_weights_are_uploaded_once_however_often_they_are_sent(client, proxy, lab, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(making_weights.file(classes=6))
    found = client.upload(file, model="small-cnn", name="theirs")
    assert (found.classes, found.size) == (6, file.stat().st_size)
    proxy.answers[:] = [busy("503 Unavailable")]
    assert through(proxy, lab).upload(file, model="small-cnn") == found
    assert found in client.checkpoints()


def test_a_file_that_is_none_or_not_there_is_told(client, tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        client.upload(tmp_path / "nothing", model="small-cnn")
    (tmp_path / "text").write_text("hello, this is no file of weights")
    with pytest.raises(Refused, match="no safetensors file"):
        client.upload(tmp_path / "text", model="small-cnn")
