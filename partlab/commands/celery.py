"""`part celery`: Celery's own tools, with the broker of the lab on this machine."""

import os
import sys

import typer

from partlab.credentials import running_labs
from partlab.embedded import parts
from partlab.errors import UsageError

app = typer.Typer()
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASS_ON)
def celery(context: typer.Context) -> None:
    """Look at the attempts with Celery's own tools: part celery inspect active.

    Also inspect attempts, control drain, flower. The broker is that of PARTLAB_BROKER_URL, else of
    the lab that part up runs here.
    """
    parts.require_extras()
    broker = {"PARTLAB_BROKER_URL": _broker_url()}
    command = [sys.executable, "-m", "celery", "--app", "worker.app", *context.args]
    sys.stdout.flush()
    os.execve(sys.executable, command, parts.child_environment(broker))


def _broker_url() -> str:
    found = os.environ.get("PARTLAB_BROKER_URL") or next(
        (lab.broker_url for lab in running_labs() if lab.broker_url), None
    )
    if found is None:
        raise UsageError(
            "No lab runs on this machine. Start one with part up, or set PARTLAB_BROKER_URL to the "
            "broker of the lab that this host belongs to."
        )
    return found
