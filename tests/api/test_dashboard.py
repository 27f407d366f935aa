import re
from html.parser import HTMLParser

import pytest

import web
from domain.run_state import RunState
from store import fleet, runs
from store.engine import database_now, writing
from tests.api.lab import LiveLab, evaluation, live_lab
from tests.api.test_auth_api import log_in

SPOKEN = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a page is made of: tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def finished(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    run = lab.start(name="a good one", tags=["paper"])
    lab.log(run, "epoch 1", SPOKEN)
    lab.measure(run, 0, [0, 1], train_loss=[2.0, 1.0])
    lab.keep_file(run, "checkpoints/best.safetensors", b"w", folder, role="best", epoch=3)
    lab.keep_file(run, "figures/budget.png", b"png", folder, kind="figure", media_type="image/png")
    lab.evaluate(run, evaluation("suspicious", fails=True))
    with writing(lab.engine) as c:
        runs.record_facts(c, run.id, run.attempt, {"deterministic": True, "threads": 2})
        summary = {
            "clean_accuracy": 0.9639,
            "pgd20_robust_accuracy": 0.625,
            "worst_case_robust_accuracy": 0.5944,
            "verdict": "suspicious",
            "seconds": 74.2,
        }
        runs.record_summary(c, run.id, run.attempt, summary)
    lab.finish(run)
    return run


def test_an_empty_lab_says_how_to_begin(tmp_path):
    with live_lab("sqlite", tmp_path) as lab:
        page = log_in(lab).get("/").text
    assert "No runs yet" in page
    assert "part submit examples/digits.yaml" in page
    assert "No worker has registered yet" in page


def test_the_table_shows_a_result_with_its_verdict(lab, finished):
    page = log_in(lab).get("/").text
    assert f'href="/runs/{finished.id}"' in page
    for told in ("a good one", "96.4 %", "62.5 %", "59.4 %", "suspicious", "succeeded"):
        assert told in page


@pytest.mark.usefixtures("finished")
def test_a_page_seen_already_is_not_sent_again(lab):
    browser = log_in(lab)
    digest = re.search(r'"seen": "(\w+)"', browser.get("/").text)[1]
    assert browser.get("/", params={"seen": digest}).status_code == 204
    lab.submit()
    assert browser.get("/", params={"seen": digest}).status_code == 200


@pytest.mark.usefixtures("finished")
def test_the_table_is_filtered_and_paged(lab):
    browser = log_in(lab)
    assert "a good one" in browser.get("/?state=succeeded&q=good").text
    assert "No run fits this filter" in browser.get("/?state=failed&q=good").text
    for index in range(42):
        lab.submit(experiment="many", name=f"n{index}")
    first = browser.get("/?experiment=many").text
    older = re.search(r'href="(/\?[^"]*cursor=\w+)" rel="next"', first)[1].replace("&amp;", "&")
    second = browser.get(older).text
    assert ">n41<" in first
    assert ">n1<" in second
    assert ">n41<" not in second


def test_a_finished_runs_page_shows_everything_it_has(lab, finished):
    page = log_in(lab).get(f"/runs/{finished.id}").text
    for told in (
        "a good one",
        "96.4 %",
        "worst case",
        "54.3\N{EN DASH}64.4",
        "lower tau, or use the centred sigmoid",
        "A check that should hold does not",
        "checkpoints/best.safetensors",
        "epoch 3",
        "figures/budget.png",
        "claimed by host-a",
        "Retry",
        "&#34;epsilon_high&#34;: &#34;51/255&#34;",
        "1 min 14 s",
    ):
        assert told in page
    assert SPOKEN not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'data-live="no"' in page


def test_the_pages_stream_goes_on_where_the_page_ends(lab, finished):
    browser = log_in(lab)
    cursor = re.search(r'data-cursor="([\d.]+)"', browser.get(f"/runs/{finished.id}").text)[1]
    path = f"/api/v1/runs/{finished.id}/stream?last_event_id={cursor}"
    with browser.stream("GET", path) as answer:
        names = [line for line in answer.iter_lines() if line.startswith("event")]
    assert names == ["event: end"]


@pytest.mark.parametrize("part", ["summary", "results", "pictures", "files", "history"])
def test_each_part_renders_alone(lab, finished, part):
    answer = log_in(lab).get(f"/runs/{finished.id}/parts/{part}")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert answer.text.strip() in log_in(lab).get(f"/runs/{finished.id}").text


def test_a_running_run_shows_its_progress_and_a_stop(lab):
    run = lab.start()
    page = log_in(lab).get(f"/runs/{run.id}").text
    assert "Starting" in page
    lab.advance(
        run, phase="train", done=5, total=10, unit="step", epoch=2, epochs=4,
        images_per_second=128.0,
    )  # fmt: skip
    browser = log_in(lab)
    for page in (browser.get(f"/runs/{run.id}").text, browser.get("/").text):
        assert "5 s left" in page
        assert "epoch 2" in page
    assert f'hx-post="/runs/{run.id}/cancel"' in browser.get(f"/runs/{run.id}").text
    assert "/cancel" not in log_in(lab, "bob").get(f"/runs/{run.id}").text
    assert "/cancel" not in log_in(lab, "eve").get(f"/runs/{run.id}").text
    lab.advance(run, phase="evaluate", done=1, total=5, unit="pass", detail="pgd-20")
    assert "pgd-20" in browser.get("/").text
    lab.finish(run)


def test_a_queued_run_says_what_it_waits_for(lab):
    run = lab.submit(resources={"gpus": 1})
    page = log_in(lab).get(f"/runs/{run.id}").text
    assert "Waits for a worker with 1 gpu slot: none is alive" in page
    assert "waits for a worker with 1 gpu slot" in log_in(lab).get(f"/?q={run.id}").text
    lab.client().post(f"/api/v1/runs/{run.id}/pause")
    assert "paused" in log_in(lab).get(f"/?q={run.id}").text
    assert f'hx-post="/runs/{run.id}/resume"' in log_in(lab).get(f"/runs/{run.id}").text
    follower = lab.submit(after=[run.id])
    assert f"waits for {run.id}" in log_in(lab).get(f"/?q={follower.id}").text


def test_a_failed_run_says_why(lab):
    run = lab.start()
    failure = {
        "failure_class": "data-missing",
        "code": "data-missing",
        "message": "CIFAR-10 is not here",
        "traceback": "Traceback ...",
    }
    lab.finish(run, RunState.FAILED, failure=failure)
    browser = log_in(lab)
    page = browser.get(f"/runs/{run.id}").text
    assert "CIFAR-10 is not here" in page
    assert "Traceback ..." in page
    assert "This run has no evaluation." in page
    assert "CIFAR-10 is not here" in browser.get(f"/?q={run.id}").text


def test_a_silent_worker_is_shown_as_such(lab):
    with writing(lab.engine) as c:
        earlier = database_now(c).replace(year=2020)
        fleet.register_worker(c, name="lost", host="h", pid=1, offered=[], now=earlier)
    assert "lost" not in log_in(lab).get("/").text
    with writing(lab.engine) as c:
        then = database_now(c).timestamp() - 600
        at = earlier.fromtimestamp(then, tz=earlier.tzinfo)
        fleet.worker_alive(c, "lost", busy_slots=[], now=at)
    assert "silent since" in log_in(lab).get("/").text


def test_an_unknown_run_has_a_page_that_says_so(lab):
    for run_id in ("0" * 18, "nonsense"):
        answer = log_in(lab).get(f"/runs/{run_id}")
        assert answer.status_code == 404
        assert "There is no run" in answer.text
    assert log_in(lab).get(f"/runs/{'0' * 18}/parts/summary").status_code == 404
    assert log_in(lab).get(f"/runs/{'0' * 18}/parts/nothing").status_code == 404


def test_the_reference_page_names_every_operation(lab):
    page = log_in(lab).get("/docs").text
    operations = lab.client().get("/api/v1/openapi.json").json()["paths"]
    assert len(operations) > 20
    for path in operations:
        assert f"<code>{path}</code>" in page


PAGES = ["/", "/docs", "/login", "/runs/{id}", "/runs/nonsense"]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_breaks_its_own_content_policy(lab: LiveLab, finished, path):
    answer = log_in(lab).get(path.replace("{id}", finished.id))
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    page = Page(answer.text)
    for tag, attributes in page.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "style"
        if tag == "script":
            assert (attributes.get("src") or "").startswith("/static/")
    linked = {a.get("src") or a.get("href") for t, a in page.tags if t in {"script", "link"}}
    for address in linked:
        assert lab.client(None).get(address).status_code == 200


@pytest.mark.parametrize("path", ["/", "/login", "/runs/{id}"])
def test_pages_can_be_used_without_seeing_them(lab, finished, path):
    page = Page(log_in(lab).get(path.replace("{id}", finished.id)).text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert ("html", {"lang": "en"}) in page.tags
    assert "main" in {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("h1") == 1
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden")
        if tag == "section":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby") in ids


def test_vendored_files_carry_their_licence_and_version():
    vendor = web.STATIC / "vendor"
    told = (vendor / "README.md").read_text()
    for file in vendor.iterdir():
        if file.name != "README.md":
            assert file.name in told
    assert "BSD" in (vendor / "htmx.LICENSE.txt").read_text()
    assert "MIT" in (vendor / "uplot.LICENSE.txt").read_text()
