"""``python -m partcore.data download NAME [--root DIR]``."""

import argparse
import os
import sys
from pathlib import Path

from partcore.data.torchvision_sets import download


def main() -> int:
    """Run the command; 0 on success."""
    default = os.environ.get("PARTLAB_DATA", "~/.partlab/data")
    parser = argparse.ArgumentParser(prog="python -m partcore.data")
    parser.add_argument("command", choices=["download"])
    parser.add_argument("name", choices=["cifar10", "cifar100", "svhn"])
    parser.add_argument("--root", type=Path, default=Path(default))
    options = parser.parse_args()
    download(options.name, options.root.expanduser())
    sys.stdout.write(f"{options.name} is in {options.root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
