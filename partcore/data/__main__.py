"""``python -m partcore.data download NAME`` and ``python -m partcore.data check FOLDER``."""

import argparse
import os
import sys
from pathlib import Path

from domain.errors import ExperimentError
from partcore.data.image_folder import check
from partcore.data.torchvision_sets import download


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    default = Path(os.environ.get("PARTLAB_DATA", "~/.partlab/data"))
    parser = argparse.ArgumentParser(prog="python -m partcore.data")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("download", help="fetch a dataset into the data root")
    fetch.add_argument("name", choices=["cifar10", "cifar100", "svhn"])
    look = commands.add_parser("check", help="list all that a run on a folder of images refuses")
    look.add_argument("name", metavar="FOLDER", help="its name under the data root")
    look.add_argument("--size", type=int, default=32, help="side images are brought to")
    for command in (fetch, look):
        command.add_argument("--root", type=Path, default=default, help="the data root")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; 0 on success, 1 for a folder that no run can read."""
    options = parse(arguments)
    root = options.root.expanduser()
    if options.command == "check":
        return _check(root, options.name, options.size)
    download(options.name, root)
    sys.stdout.write(f"{options.name} is in {root}\n")
    return 0


def _check(root: Path, name: str, size: int) -> int:
    try:
        result = check(root, name, size)
    except ExperimentError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in (result.summary, *result.problems)))
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
