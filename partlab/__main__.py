"""`part`, which is also ``python -m partlab``."""

import sys


def main() -> None:
    """Run `part`. Control-C is status 130 while the program is still being loaded, too."""
    try:
        from partlab.installation import refuse_shadowed_packages

        # Before anything of `domain` is imported. A client needs no other package of the lab.
        refuse_shadowed_packages(("partlab", "domain"))
        from partlab import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
