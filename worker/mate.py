"""A rank above 0: runs the experiment and says nothing, for rank 0 tells for all.

``python -m worker.mate --spec FILE --work DIR ...``; rank and rendezvous are in the environment.
"""

import argparse
import sys
from pathlib import Path

from domain.presets import RUN_SPEC
from worker.exits import EXIT_FAILED, EXIT_OUT_OF_MEMORY
from worker.failures import unexpected
from worker.leash import die_with_parent


def main(arguments: list[str]) -> int:
    """Run to the end; return the exit status."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="python -m worker.mate")
    for name in ("spec", "work", "data-root"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--resume", action="store_true")
    told = parser.parse_args(arguments)
    import torch

    from partcore.environment import Environment, configure
    from partcore.experiment import run_experiment
    from partcore.ranks import Ranks

    ranks = Ranks.from_environment()
    environment = Environment(
        work=told.work,
        data_root=told.data_root,
        device=ranks.device(told.device),
        threads=told.threads,
        resume=told.resume,
        ranks=ranks,
    )
    try:
        configure(environment)
        for _ in run_experiment(RUN_SPEC.validate_json(told.spec.read_bytes()), environment):
            pass
    except (MemoryError, torch.OutOfMemoryError):
        return EXIT_OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - the edge: rank 0 meets an error too, and tells it
        sys.stderr.write(f"rank {ranks.rank}: {type(error).__name__}: {error}\n")
        no_memory = unexpected(error).failure_class == "out-of-memory"
        return EXIT_OUT_OF_MEMORY if no_memory else EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
