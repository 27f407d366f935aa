import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from domain.run_state import RunState
from partlab import cli
from partlab.client import Client
from store.rows import RunRow
from tests.api.lab import LiveLab, evaluation, live_lab
from tests.partlab.proxy import Proxy, proxied


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[LiveLab]:
    """A real API process's application over SQLite, served on a port."""
    with live_lab("sqlite", tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def client(lab) -> Iterator[Client]:
    """A client of it, as ada."""
    with Client(lab.url, lab.tokens["ada"]) as made:
        yield made


@pytest.fixture
def proxy(lab) -> Iterator[Proxy]:
    """A network that can fail, in front of the lab."""
    with proxied(lab.url) as made:
        yield made


@pytest.fixture(autouse=True)
def no_lab_of_ones_own(monkeypatch, tmp_path):
    """No test sees the lab or the login of whoever runs it."""
    for name in ("PART_URL", "PART_TOKEN", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PARTLAB_STATE", str(tmp_path / "no-state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "notes"))


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    status: int
    out: str
    err: str


Part = Callable[..., Said]


@pytest.fixture
def part(monkeypatch, capsys) -> Part:
    """Run `part` in this process; what it writes is not a terminal's."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["part", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0
        out, err = capsys.readouterr()
        return Said(status, out, err)

    return run


@pytest.fixture
def ada(lab, monkeypatch) -> LiveLab:
    """The lab, which `part` reaches as ada."""
    monkeypatch.setenv("PART_URL", lab.url)
    monkeypatch.setenv("PART_TOKEN", lab.tokens["ada"])
    return lab


@pytest.fixture(scope="module")
def finished(lab, tmp_path_factory) -> RunRow:
    """A run that is over, with everything a run can have."""
    folder = tmp_path_factory.mktemp("files")
    run = lab.start(name="the finished one", tags=["baseline"])
    lab.log(run, "reading the images")
    lab.log(run, "the loss is high", level="warning")
    lab.measure(
        run, 0, [0, 1, 2], train_loss=[2.5, float("nan"), 1.5], val_accuracy=[0.1, 0.5, 0.9]
    )
    lab.keep_file(run, "weights/final.safetensors", b"weights" * 50_000, folder, kind="weights")
    lab.keep_file(run, "figures/budget.png", b"a picture", folder, kind="figure")
    lab.keep_file(
        run, "checkpoints/last.safetensors", b"last", folder, role="last", epoch=1, step=2
    )
    lab.evaluate(run, evaluation("suspicious", fails=True))
    lab.advance(run, phase="draw", done=1, total=1, unit="image")
    summary = {"clean_accuracy": 0.96, "worst_case_robust_accuracy": 0.59, "verdict": "suspicious"}
    lab.finish(run, summary=summary)
    return run


@pytest.fixture(scope="module")
def failed(lab) -> RunRow:
    """A run that failed."""
    run = lab.start(name="the failed one")
    failure = {"failure_class": "data-missing", "code": "x", "message": "no cifar10 here"}
    lab.finish(run, RunState.FAILED, failure={**failure, "traceback": None})
    return run
