"""The lab itself: who waits, who works, who may."""

import sys
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
from partlab.errors import Contradiction, UsageError
from partlab.terminal import console, print_json

app = typer.Typer()
admin = typer.Typer(no_args_is_help=True, help="Users and tokens, for administrators.")


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
    """List workers, their slots and what occupies them."""
    with lab() as client:
        found = client.workers()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.workers(out, found) if found else "There is no worker.")


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
    if token_file is None:
        secret = Prompt.ask("Token", password=True, console=Console(stderr=True))
    elif str(token_file) == "-":
        secret = sys.stdin.readline()
    else:
        secret = _read(token_file)
    if not (secret := secret.strip()):
        raise UsageError("The token is empty.")
    return secret


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error


@app.command()
def whoami(*, as_json: Json = False) -> None:
    """Say which lab and which user this shell means."""
    found = find_credentials()
    with lab() as client:
        user = client.me()
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


@admin.command()
def token(
    name: Annotated[str, typer.Argument(help="The user; made if there is none of that name.")],
    *,
    role: Annotated[str, typer.Option(help="Of a new user: admin, member or viewer.")] = "member",
    label: Annotated[str, typer.Option(help="What the token is for.")] = "token",
    as_json: Json = False,
) -> None:
    """Issue a token; its secret goes to standard output, this once."""
    with lab() as client:
        made = _ensure_user(client, name, role)
        issued = client.issue_token(name, label=label)
    if as_json:
        print_json(issued)
        return
    about = f"new user {name} ({role})" if made else f"user {name}, who keeps the role they have"
    console(to_stderr=True).print(Text(f"{about}; the secret is shown this once:", style="dim"))
    sys.stdout.write(issued.secret + "\n")


def _ensure_user(client: Client, name: str, role: str) -> bool:
    """Make the user; False if there is one."""
    try:
        client.create_user(name, role)
    except Contradiction:
        return False
    return True


@admin.command()
def tokens(*, as_json: Json = False) -> None:
    """List tokens without their secrets."""
    with lab() as client:
        found = client.tokens()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.tokens(out, found))


@admin.command()
def revoke(identifier: Annotated[str, typer.Argument(metavar="TOKEN-ID")]) -> None:
    """End a token."""
    with lab() as client:
        client.revoke_token(identifier)
    console().print(Text(f"revoked {identifier}"))
