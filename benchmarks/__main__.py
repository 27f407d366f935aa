"""``make bench``: print every figure."""

import sys

from benchmarks import core, store, week

if __name__ == "__main__":
    core.main(sys.argv[1:])
    week.main([])
    store.main()
