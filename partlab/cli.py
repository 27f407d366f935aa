"""The `part` command."""

import io
import os
import sys
from contextlib import suppress

import typer

from partlab.commands import (
    administration,
    checkpoints,
    demo,
    evaluations,
    labs,
    records,
    reproduce,
    runs,
    up,
)
from partlab.errors import ClientError
from partlab.terminal import print_error

ABOUT = """Train robust image classifiers on a shared queue, and get numbers that survive review.

Exit status: 0 done; 1 the run did not succeed, or the lab refused; 2 the command line, the spec or
the run named is wrong; 3 no lab answers, or the token is not valid; 130 interrupted.
"""

app = typer.Typer(
    no_args_is_help=True,
    help=ABOUT,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (runs, evaluations, records, checkpoints, labs, up, demo, reproduce):
    app.add_typer(_part.app)
app.add_typer(administration.admin, name="admin")


def main() -> None:
    """Run `part`; an expected error is a message and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A stream that does not know a character says `?` and not a traceback.
            stream.reconfigure(errors="replace")
    try:
        app()
    except ClientError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of our output has left (`part ls | head`); nothing more can be said.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
