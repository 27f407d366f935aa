"""``python -m partlab`` is `part`."""

from partlab.cli import main

if __name__ == "__main__":
    main()
