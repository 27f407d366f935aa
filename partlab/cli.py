"""The `part` command."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from partlab import surroundings
from partlab.commands import (
    administration,
    celery,
    checkpoints,
    demo,
    evaluations,
    labs,
    records,
    reproduce,
    runs,
    up,
)
from partlab.errors import ClientError, Defect
from partlab.terminal import print_error

ABOUT = """Train robust image classifiers on a shared queue, and get numbers that survive review.

Exit status: 0 done; 1 the run did not succeed, or the lab refused; 2 the command line, the spec or
the run named is wrong; 3 no lab answers, or the token is not valid; 70 a defect of `part`; 130
interrupted.
"""

app = typer.Typer(
    no_args_is_help=True,
    help=ABOUT,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (runs, evaluations, records, checkpoints, labs, up, celery, demo, reproduce):
    app.add_typer(_part.app)
app.add_typer(administration.admin, name="admin")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        labs.version()
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which version this is.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run `part`; an expected error is a message and an exit status."""
    surroundings.prepare()
    status = _status_of(app)
    # What was written may still be in the buffer; the disk behind it may be full.
    flushed = _status_of(sys.stdout.flush)
    sys.exit(status or flushed)


def _status_of(action: Callable[[], object]) -> int:
    """Do something, tell what went wrong, return the exit status."""
    try:
        action()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except ClientError as error:
        return _tell(error)
    except BrokenPipeError:
        # The reader of our output has left (`part ls | head`); nothing more can be said.
        surroundings.abandon_broken_streams()
        return 1
    except OSError as error:
        return _tell(_system_error(error))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort of a program for people
        return _tell(_defect(error))
    return 0


def _tell(error: ClientError) -> int:
    # Neither a full disk behind stderr nor a reader who left may become a traceback.
    with suppress(OSError):
        print_error(error, as_json="--json" in sys.argv)
    surroundings.abandon_broken_streams()
    return error.exit_status


def _system_error(error: OSError) -> ClientError:
    """Say what the operating system refused, and of which file."""
    reason = error.strerror or str(error)
    if surroundings.abandon_broken_streams():
        return ClientError(f"The output cannot be written: {reason}.")
    return ClientError(f"{error.filename}: {reason}." if error.filename else f"{reason}.")


def _defect(error: Exception) -> Defect:
    """Say where `part` failed; its words may hold what a terminal should not show."""
    if os.environ.get("PART_DEBUG"):
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Defect(
        f"This is a defect of `part`: {type(error).__name__} in {Path(last.filename).name}, line "
        f"{last.lineno}. Please report it; PART_DEBUG=1 shows the traceback."
    )
