"""Who may, who gets how much, and what is given to nobody: for administrators."""

import sys
from typing import Annotated

import typer
from rich.text import Text

from partlab import tables
from partlab.client import Client
from partlab.commands import Json, lab
from partlab.errors import Contradiction, UsageError
from partlab.terminal import console, print_json

admin = typer.Typer(
    no_args_is_help=True, help="Users, tokens, shares, quotas and hosts, for administrators."
)
NONE = "none"
"""What takes a group or a quota away."""


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


@admin.command()
def users(*, as_json: Json = False) -> None:
    """List users with their shares, groups and quotas."""
    with lab() as client:
        found = client.users()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.users(out, found))


@admin.command()
def limit(
    name: Annotated[str, typer.Argument(help="The user.")],
    *,
    share: Annotated[
        float | None, typer.Option(help="Share against others of the group.", min=0)
    ] = None,
    group: Annotated[str | None, typer.Option(help="Group they share with; none for none.")] = None,
    running: Annotated[str | None, typer.Option(help="Slots held at once; none for any.")] = None,
    queued: Annotated[str | None, typer.Option(help="Queued runs; none for any.")] = None,
    hours: Annotated[
        str | None, typer.Option(help="Slot-hours in seven days; none for any.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a user's share, group or quotas."""
    changes: dict[str, object] = {} if share is None else {"share": share}
    if group is not None:
        changes["group_name"] = None if group == NONE else group
    quotas = {"most_running": running, "most_queued": queued, "most_hours": hours}
    changes |= {field: _quota(text) for field, text in quotas.items() if text is not None}
    if not changes:
        raise UsageError("Say what to change: --share, --group, --running, --queued or --hours.")
    with lab() as client:
        found = client.limit(name, **changes)
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.users(out, [found]))


def _quota(text: str) -> float | None:
    if text == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no number; write one, or none.") from None


@admin.command()
def groups(*, as_json: Json = False) -> None:
    """List groups and their shares."""
    with lab() as client:
        found = client.groups()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.groups(out, found) if found else "There is no group.")


@admin.command()
def group(
    name: str, share: Annotated[float, typer.Option(help="Against other groups.", min=0)] = 1.0
) -> None:
    """Make a group, or give it another share."""
    with lab() as client:
        made = client.put_group(name, share)
    console().print(Text(f"group {made.name} has share {made.share:g}"))


@admin.command()
def drain(
    worker: Annotated[str, typer.Argument(help="The worker, as `part workers` names it.")],
    *,
    undo: Annotated[bool, typer.Option(help="Give it runs again.")] = False,
) -> None:
    """Give a worker nothing more; what it has runs to its end."""
    with lab() as client:
        client.drain(worker, draining=not undo)
    console().print(Text(f"{worker} is given {'runs again' if undo else 'nothing more'}"))


@admin.command()
def release(
    worker: Annotated[str, typer.Argument(help="The worker, as `part workers` names it.")],
    slot: Annotated[str, typer.Argument(help="Its slot: gpu:0.")],
) -> None:
    """End a slot's quarantine."""
    kind, _, ordinal = slot.partition(":")
    if not ordinal.isdigit():
        raise UsageError(f"{slot!r} is no slot; write its kind and number, such as gpu:0.")
    with lab() as client:
        client.release(worker, kind, int(ordinal))
    console().print(Text(f"{worker} {slot} is given runs again"))
