"""``python -m partlab`` is `part`."""

from partlab.installation import refuse_shadowed_packages

# Before anything of `domain` is imported. A client needs no other package of the lab.
refuse_shadowed_packages(("partlab", "domain"))

from partlab.cli import main

if __name__ == "__main__":
    main()
