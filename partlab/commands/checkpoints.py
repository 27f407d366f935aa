"""Weights from elsewhere: upload them, list them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from partlab import tables
from partlab.commands import Json, lab
from partlab.terminal import console, print_json

app = typer.Typer()


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors file.")],
    *,
    model: Annotated[str, typer.Option(help="Which network it is, such as resnet18.")],
    name: Annotated[str | None, typer.Option(help="A label for people.")] = None,
    as_json: Json = False,
) -> None:
    """Upload weights that were trained elsewhere; the lab says if they are none it knows.

    Files of PyTorch and RobustBench become safetensors with `python -m partcore.robustbench`.
    """
    with lab() as client:
        found = client.upload(file, model=model, name=name)
    if as_json:
        print_json(found)
        return
    out = console()
    # The same file again is the same checkpoint, under the name it had first.
    named = f", named {found.name}" if found.name else ""
    line = Text.assemble("uploaded ", (found.id, "bold"), f"  {found.model}{named}")
    out.print(line, soft_wrap=True)
    hint = f"part evaluate --checkpoint {found.id} --set data.dataset=… --suite standard"
    out.print(Text(hint, style="dim"), soft_wrap=True)


@app.command()
def checkpoints(*, as_json: Json = False) -> None:
    """List uploaded weights, newest first."""
    with lab() as client:
        found = client.checkpoints()
    out = console()
    if as_json:
        print_json(found)
    else:
        out.print(tables.checkpoints(out, found) if found else "Nothing was uploaded yet.")
