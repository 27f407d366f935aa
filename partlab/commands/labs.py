"""The lab itself: who waits, who works, who may."""

import csv
import shlex
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.prompt import Prompt
from rich.text import Text

from partlab import tables
from partlab.client import Client
from partlab.commands import Json, lab
from partlab.credentials import find_credentials, store_credentials
from partlab.errors import UsageError
from partlab.terminal import console, print_json

app = typer.Typer()


class By(StrEnum):
    """What a ledger is summed over."""

    USER = "user"
    EXPERIMENT = "experiment"
    WEEK = "week"
    ATTEMPT = "attempt"


@app.command()
def queue(*, as_json: Json = False) -> None:
    """Show how many runs wait and run, and which slots are busy."""
    with lab() as client:
        found = client.queue()
    if as_json:
        print_json(found)
    else:
        console().print(tables.queue(found))


@app.command()
def workers(*, as_json: Json = False) -> None:
    """List workers, their slots and what occupies them, or why nothing may."""
    with lab() as client:
        found = client.workers()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.workers(out, found) if found else "There is no worker.")


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Check the lab, and say what to do; exit status 1 if something fails."""
    with lab() as client:
        found = client.doctor()
    if as_json:
        print_json(found)
    else:
        out = console()
        out.print(tables.checkup(out, found))
    if found.level == "fail":
        raise typer.Exit(1)


@app.command()
def ledger(
    *,
    by: Annotated[By, typer.Option(help="What to sum over.")] = By.USER,
    days: Annotated[
        float | None, typer.Option(help="Only attempts begun in the last so many days.", min=0)
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show slot-hours, useful and wasted, by user, experiment, week or attempt."""
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    with lab() as client:
        found = client.ledger(by.value, since=since)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((by.value, "kind", "attempts", "useful_seconds", "wasted_seconds"))
        writer.writerows((e.name, e.kind, e.attempts, e.useful, e.wasted) for e in found)
    elif as_json:
        print_json(found)
    else:
        out = console()
        out.print(tables.ledger(out, by.value, found) if found else "Nothing has run yet.")


@app.command()
def presets(*, as_json: Json = False) -> None:
    """List the presets, datasets and models a spec may name."""
    with lab() as client:
        found = client.catalog()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.catalog(out, found))


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="Address of the lab, such as https://lab:8700.")],
    *,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token; - for standard input.")
    ] = None,
) -> None:
    """Store a lab's address and your token, once they are seen to work."""
    secret = _secret(token_file)
    with Client(url, secret) as client:
        user = client.me()
    file = store_credentials(url, secret)
    console().print(Text(f"Signed in at {url} as {user.name} ({user.role}); stored in {file}."))


def _secret(token_file: Path | None) -> str:
    if token_file is None and not sys.stdin.isatty():
        raise UsageError("Nobody can type a token here: give --token-file FILE, or - to pipe it.")
    if token_file is None:
        secret = Prompt.ask("Token", password=True, console=Console(stderr=True))
    elif str(token_file) == "-":
        secret = _piped()
    else:
        secret = _read(token_file)
    if not (secret := secret.strip()):
        raise UsageError("The token is empty.")
    return secret


def _piped() -> str:
    try:
        return sys.stdin.readline()
    except UnicodeDecodeError:
        raise UsageError("Standard input is no text in UTF-8.") from None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text in UTF-8, so it holds no token.") from None


@app.command()
def whoami(
    *,
    as_shell: Annotated[
        bool, typer.Option("--export", help='Write the token too: eval "$(part whoami --export)".')
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which lab and which user this shell means."""
    found = find_credentials()
    with lab() as client:
        user = client.me()
    if as_shell:
        url, secret = shlex.quote(client.url), shlex.quote(found.token or "")
        sys.stdout.write(f"export PART_URL={url} PART_TOKEN={secret}\n")
        return
    if as_json:
        print_json({"name": user.name, "role": user.role, "url": found.url, "from": found.origin})
    else:
        console().print(Text(f"{user.name} ({user.role}) at {found.url}, from {found.origin}"))


@app.command()
def version(*, as_json: Json = False) -> None:
    """Say which version this is."""
    number = version_of("partlab")
    if as_json:
        print_json({"version": number})
    else:
        console().print(f"partlab {number}")
