"""``make bench``: print every figure."""

import sys

from benchmarks import core, store

if __name__ == "__main__":
    core.main(sys.argv[1:])
    store.main()
