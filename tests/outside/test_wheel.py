"""The wheel in an environment of its own, outside the checkout, as a user installs and uses it."""

import json
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from api.pages import router
from partlab.installation import PACKAGES
from tests.support.installing import (
    Installation,
    build_wheel,
    copy_source,
    create_environment,
    import_all,
    run,
    source_files,
    succeed,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("installed")]
SPEC = """
name: first run
preset: part++
data: {dataset: digits, train_limit: 100, test_limit: 40}
training: {epochs: 2}
evaluation: {attacks: [{kind: pgd, steps: 2}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new user's home: its name has a space."""
    home = tmp_path_factory.mktemp("outside") / "a new home"
    home.mkdir()
    return home


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    return build_wheel(copy_source(folder / "source"), folder / "dist")


@pytest.fixture(scope="module")
def whole(folder: Path, wheel: Path) -> Installation:
    """The lab with all its extras."""
    installation = create_environment(folder / "whole lab")
    installation.install(f"partlab[api,worker,embedded] @ {wheel.as_uri()}", cwd=folder)
    return installation


@pytest.fixture(scope="module")
def client_only(folder: Path, wheel: Path) -> Installation:
    """The client, as on a laptop that uses a lab elsewhere."""
    installation = create_environment(folder / "client")
    installation.install(f"partlab @ {wheel.as_uri()}", cwd=folder)
    return installation


@contextmanager
def lab_running(installation: Installation, home: Path) -> Iterator[dict[str, str]]:
    """`part up` in ``home``, until the block ends; yields what it says of itself."""
    log = home / "up.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [installation.bin / "part", "up", "--state", "my lab", "--json"],
            cwd=home,
            env=installation.environment(home, PARTLAB_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert process.stdout is not None
    state = home / "my lab"
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield json.loads(line)
        process.terminate()
        assert process.wait(timeout=60) == 0, log.read_text()
        logs = {log, *(state / "logs").iterdir()}
        assert [file.name for file in logs if "Traceback" in file.read_text()] == []
    finally:
        process.kill()
        process.wait(timeout=30)
        process.stdout.close()


def test_the_wheel_holds_every_file_of_its_packages(wheel: Path):
    shipped = {*zipfile.ZipFile(wheel).namelist()}
    ours = {name for name in source_files() if name.partition("/")[0] in PACKAGES}
    assert ours - shipped == set()
    assert {name.partition("/")[0] for name in shipped} - {*PACKAGES} == {
        wheel.name.partition("-py3")[0] + ".dist-info"
    }


def test_a_new_user_goes_from_the_wheel_to_an_audited_run(whole: Installation, folder: Path):
    (folder / "first.yaml").write_text(SPEC)
    with lab_running(whole, folder) as lab:
        variables = whole.environment(folder, PARTLAB_STATE=lab["state"])

        def part(*words: str) -> str:
            return succeed((whole.bin / "part", *words), cwd=folder, env=variables)

        part("submit", "first.yaml", "--follow")
        run_id = json.loads(part("ls", "--json"))[0]["id"]
        assert "first run" in part("show", "latest")
        assert part("get", "latest")
        every_page_opens(lab, run_id)
        part("doctor")


def every_page_opens(lab: dict[str, str], run_id: str) -> None:
    token = Path(lab["token_file"]).read_text().strip()
    with httpx.Client(base_url=lab["url"], follow_redirects=True) as browser:
        assert browser.post("/login", data={"token": token}).status_code == 200
        parts = ("summary", "results", "pictures", "files", "history")
        for route in router.routes:
            if "GET" not in route.methods:
                continue
            for part in parts if "{part}" in route.path else [""]:
                path = route.path.replace("{run_id}", run_id).replace("{part}", part)
                assert browser.get(path).status_code == 200, path
        for address in (f"/static/{name}" for name in ("lab.css", "run.js")):
            assert browser.get(address).status_code == 200, address


def test_a_client_installs_alone_and_says_what_a_lab_needs(client_only: Installation, folder: Path):
    variables = client_only.environment(folder)
    part = client_only.bin / "part"
    assert "submit" in succeed((part, "--help"), cwd=folder, env=variables)
    assert "partlab.client" in import_all(client_only, "partlab", "domain")
    refused = run((part, "up"), cwd=folder, env=variables)
    assert refused.returncode == 1
    assert "pip install 'partlab[api,embedded,worker]'" in refused.stderr


ENTRIES = {
    "part up": ("bin/part", "up", "--state", "never"),
    "uvicorn": ("bin/python", "-P", "-m", "uvicorn", "api.main:app", "--port", "1"),
    "celery": ("bin/python", "-P", "-m", "celery", "--app", "worker.app", "worker"),
    "migrations": ("bin/python", "-P", "-m", "migrations", "current"),
    "bootstrap": ("bin/python", "-P", "-m", "store.bootstrap", "--token-file", "never"),
    "train": ("bin/python", "-P", "-m", "partcore.train", "--help"),
    "data": ("bin/python", "-P", "-m", "partcore.data", "--help"),
    "robustbench": ("bin/python", "-P", "-m", "partcore.robustbench", "--help"),
}


SHADOWED = [*((entry, "domain") for entry in ENTRIES), ("part up", "api"), ("uvicorn", "web")]


@pytest.mark.parametrize(("entry", "package"), SHADOWED)
def test_nothing_starts_where_another_package_shadows_ours(whole, folder, entry, package):
    decoy = folder / f"decoy {package}" / package
    decoy.mkdir(parents=True, exist_ok=True)
    (decoy / "__init__.py").write_text("")
    variables = whole.environment(folder, PYTHONPATH=str(decoy.parent))
    program, *words = ENTRIES[entry]
    refused = run((whole.folder / program, *words), cwd=folder, env=variables)
    assert refused.returncode == 1
    assert f"package `{package}` in {whole.folder}" in refused.stderr
    assert str(decoy) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nothing_starts_where_another_distribution_shares_a_package(whole, folder):
    (site,) = (whole.folder / "lib").glob("python*/site-packages")
    other = site / "someweb-1.0.dist-info"
    other.mkdir()
    try:
        (other / "METADATA").write_text("Metadata-Version: 2.1\nName: someweb\nVersion: 1.0\n")
        (other / "RECORD").write_text("web/application.py,,\n")
        refused = run(
            (whole.bin / "part", "up", "--state", "never"),
            cwd=folder,
            env=whole.environment(folder),
        )
    finally:
        for file in other.iterdir():
            file.unlink()
        other.rmdir()
    assert refused.returncode == 1
    assert "The distribution `someweb` also installs a package `web`." in refused.stderr
