"""``make bench``: print every figure."""

from benchmarks import core, store

if __name__ == "__main__":
    core.main()
    store.main()
