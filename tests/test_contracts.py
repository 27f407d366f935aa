"""Each import contract is seen to fail on a planted violation, and holds on the real tree."""

import configparser
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES = PYPROJECT["root_packages"]

PLANTED = {
    "Layers: api and worker above partcore and store above domain": (
        "domain/planted.py",
        "import store",
    ),
    "partlab knows the domain only": ("partlab/planted.py", "import store.runs"),
    "Nobody imports partlab, but for its look at shadowed packages": (
        "store/planted.py",
        "import partlab.client",
    ),
    "The domain is standard library and pydantic": ("domain/planted.py", "import sqlalchemy"),
    "The API never loads the core or torch": ("api/planted.py", "import torch"),
    "Celery is known to the API's doorbell alone": ("api/main.py", "import celery"),
    "The core knows no database, no HTTP and no queue": ("partcore/planted.py", "import httpx"),
    "Kernels know neither the domain nor pydantic": ("partcore/cams/planted.py", "import pydantic"),
    "The supervising parent never loads torch": ("worker/supervisor.py", "import torch"),
    "Migrations import the tables alone": ("migrations/planted.py", "import store.runs"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def contract_file(folder: Path, contract: dict) -> None:
    """Write the one contract as an ini file, so that a run judges it alone."""
    ini = configparser.ConfigParser()

    def text(value: object) -> str:
        return "\n" + "\n".join(value) if isinstance(value, list) else str(value)

    ini["importlinter"] = {
        "root_packages": text(PACKAGES),
        "include_external_packages": "True",
    }
    ini["importlinter:contract:1"] = {key: text(value) for key, value in contract.items()}
    with (folder / ".importlinter").open("w") as stream:
        ini.write(stream)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_every_contract_has_a_planted_violation():
    assert {contract["name"] for contract in PYPROJECT["contracts"]} == set(PLANTED)


@pytest.mark.parametrize("contract", PYPROJECT["contracts"], ids=lambda c: c["name"])
def test_a_planted_violation_breaks_its_contract_and_only_the_plant_does(tree, contract):
    contract_file(tree, contract)
    clean = lint(tree)
    assert clean.returncode == 0, clean.stdout
    file, line = PLANTED[contract["name"]]
    planted = tree / file
    planted.write_text((planted.read_text() if planted.exists() else "") + f"\n{line}\n")
    broken = lint(tree)
    assert broken.returncode != 0
    assert "BROKEN" in broken.stdout


def test_a_fresh_interpreter_with_the_api_has_no_torch():
    forbidden = {"torch", "numpy", "partcore", "worker"}
    script = f"import sys, api.main; print(sorted({forbidden} & {{*sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


OF_THE_API = {
    *("api", "domain", "partlab", "store", "web"),
    *("dotenv", "fsspec", "itsdangerous", "jinja2", "markupsafe", "prometheus_client"),
    "pydantic_settings",
}
"""Packages, beyond its framework's own, that a starting API pays for: milliseconds each."""


def packages(imports: str) -> set[str]:
    """What an interpreter has loaded after these imports, Python's own apart."""
    code = f"import sys, {imports}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) - set(sys.stdlib_module_names)


def test_a_starting_api_imports_what_it_is_known_to_need():
    framework = packages("fastapi, sqlalchemy, starlette.staticfiles")
    assert packages("api.main") - framework <= OF_THE_API


@pytest.mark.xdist_group("kept-together")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all")
def test_tests_of_a_group_stay_in_one_process(request):
    """Where groups are not known, nothing says so: labs share the cores, models train twice."""
    assert request.node.nodeid.endswith("@kept-together")
