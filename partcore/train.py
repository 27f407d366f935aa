"""``python -m partcore.train --spec FILE --out DIR``: the same experiment, without any service.

Ctrl-C, then the same command with ``--resume``, ends in the same bits. On several devices:
``torchrun --nproc-per-node 2 -m partcore.train --device cuda …``; rank 0 alone speaks and writes.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from domain import spec_file
from domain.errors import ExperimentError, SpecInvalid
from domain.events import CheckpointSaved, Evaluated, Event, Finished, Log, Progress, Started
from domain.json_text import Malformed
from domain.percent import percent
from domain.presets import expand
from domain.results import Evaluation
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec
from partcore import report
from partcore.environment import Environment, configure
from partcore.experiment import run_experiment
from partcore.ranks import Ranks
from partcore.training import BEST, LAST

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Printer:
    """Writes events to a terminal: one line that moves, and lines that stay."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._moving = stream.isatty()

    def show(self, event: Event) -> None:
        """Print what a person wants to see of an event."""
        match event:
            case Progress():
                self._progress(event)
            case Log():
                mark = "" if event.level == "info" else f"{event.level}: "
                self.line(mark + event.message)
            case Evaluated():
                self.line(table(event.evaluation))
            case _:
                pass

    def line(self, text: str) -> None:
        """Print a line that stays."""
        clear = "\r\x1b[K" if self._moving else ""
        self._stream.write(f"{clear}{text}\n")
        self._stream.flush()

    def _progress(self, event: Progress) -> None:
        if not self._moving:
            return
        rate = f"{event.images_per_second:,.0f} images/s" if event.images_per_second else ""
        epoch = f"epoch {event.epoch}/{event.epochs}  " if event.epoch else ""
        what = event.detail or ""
        text = f"{event.phase:9s} {epoch}{event.done}/{event.total} {event.unit}s  {rate}  {what}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{text[:width]}")
        self._stream.flush()


def table(found: Evaluation) -> str:
    """Return accuracies with their intervals, and the verdict."""
    width = max(12, *(len(result.label) + 2 for result in found.rows))
    heads = f"{'accuracy':>12s}{'95 % interval':>20s}{'n':>8s}  threat"
    lines = [f"{'attack':{width}s}{heads}"]
    for result in found.rows:
        interval = f"{percent(result.interval.low, 2)} to {percent(result.interval.high, 2)}"
        accuracy = f"{'≤ ' if result.is_bound else ''}{percent(result.accuracy, 2)} %"
        figures = f"{accuracy:>12s}{interval:>20s}{result.n:>8d}  {result.threat or 'none'}"
        lines.append(f"{result.label:{width}s}{figures}")
    if any(result.is_bound for result in found.rows):
        lines.append("≤: an upper bound of robust accuracy (cut short, or in a cascade)")
    failing = [check for check in found.audit.checks if check.outcome == "fails"]
    lines.append(f"verdict: {found.audit.verdict}")
    lines += [f"  {check.name}: {check.detail}. {check.advice}" for check in failing]
    return "\n".join(lines)


def keeping(events: Iterable[Event], work: Path) -> Iterator[Event]:
    """Copy every checkpoint that stays to its own name; the next takes the place of the last."""
    for event in events:
        if isinstance(event, CheckpointSaved) and event.role == "kept":
            shutil.copyfile(work / event.file, work / event.name)
        yield event


def follow(events: Iterable[Event], printer: Printer) -> dict[str, object]:
    """Show every event; return the summary, with the facts of the machine and the data."""
    summary: dict[str, object] = {}
    facts: dict[str, object] = {}
    for event in events:
        printer.show(event)
        if isinstance(event, Started):
            facts = dict(event.facts)
        if isinstance(event, Finished):
            summary = {**event.summary, "facts": facts}
    return summary


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m partcore.train", description=__doc__)
    parser.add_argument("--spec", type=Path, help="JSON, YAML or TOML, as submitted to a lab")
    parser.add_argument(
        "--out", "--output-dir", type=Path, required=True, help="folder for everything written"
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="default: ./data")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda:1, or cuda: a rank's")
    parser.add_argument("--threads", type=int, default=0, help="default: a rank's share of all")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--submit", metavar="URL", help="send the spec to a lab instead")
    report.add_flags(parser)
    options = parser.parse_args(arguments)
    if (options.spec is None) == (options.data is None):
        parser.error("give --spec FILE, or the report's flags, which begin with --data")
    if options.evaluate_only and options.resume_path is None:
        parser.error("--evaluate-only needs --resume-path")
    return options


def wanted(options: argparse.Namespace) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Return the spec that the command line asks for. Raises SpecInvalid, Malformed, OSError."""
    if options.spec is not None:
        return expand(spec_file.read_file(options.spec))
    spec = expand(report.training(options))
    if not options.evaluate_only:
        return spec
    assert isinstance(spec, TrainSpec)
    source = {"run": report.NO_RUN}
    body = {"kind": "evaluate", "source": source, "evaluation": report.evaluation(options)}
    return expand(body, source=spec)


def submit(spec: TrainSpec | EvaluateSpec | VisualiseSpec, options: argparse.Namespace) -> int:
    """Hand the spec to the client, in a process of its own: the core speaks no HTTP."""
    file = options.out / "spec.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(spec.model_dump_json(indent=2))
    command = [sys.executable, "-m", "partlab", "submit", str(file)]
    return subprocess.run(
        command, env={**os.environ, "PART_URL": options.submit}, check=False
    ).returncode


def _checkpoint(path: str | None) -> Path | None:
    """Return the file a path means: itself, or the best weights of a training's folder."""
    if path is None:
        return None
    return Path(path) / BEST if Path(path).is_dir() else Path(path)


def _device(asked: str) -> str:
    """Return the device of this rank."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if asked == "cuda" else asked


def main(arguments: list[str]) -> int:
    """Run the command: 0 on success, 1 on a failed experiment, 2 on a wrong spec."""
    options = parse(arguments)
    ranks = Ranks.from_environment()
    printer = Printer(sys.stdout) if ranks.is_first else Printer(io.StringIO())
    try:
        spec = wanted(options)
    except SpecInvalid as error:
        printer.line("\n".join(f"{e.pointer}: {e.detail}" for e in error.errors))
        return EXIT_USAGE
    except Malformed as error:
        printer.line(f"{error}.")
        return EXIT_USAGE
    except OSError as error:
        printer.line(f"{options.spec} cannot be read: {error.strerror}.")
        return EXIT_USAGE
    if not ranks.is_first and (options.submit or not isinstance(spec, TrainSpec)):
        return 0
    if options.submit is not None:
        return submit(spec, options)
    resume = options.resume and isinstance(spec, TrainSpec) and (options.out / LAST).exists()
    environment = Environment(
        work=options.out,
        data_root=options.data_root,
        device=_device(options.device),
        threads=options.threads or max(1, (os.cpu_count() or 1) // ranks.size),
        resume=resume,
        ranks=ranks,
        source_checkpoint=_checkpoint(options.resume_path),
    )
    return run(spec, environment, printer)


def run(
    spec: TrainSpec | EvaluateSpec | VisualiseSpec, environment: Environment, printer: Printer
) -> int:
    """Run one experiment to its end; return the exit status."""
    configure(environment)
    try:
        summary = follow(keeping(run_experiment(spec, environment), environment.work), printer)
    except ExperimentError as error:
        printer.line(f"failed: {error}")
        if not environment.ranks.is_first:
            sys.stderr.write(f"rank {environment.ranks.rank} failed: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        printer.line("interrupted; the same command with --resume goes on")
        return EXIT_INTERRUPTED
    if environment.ranks.is_first:
        text = json.dumps(summary, indent=2) + "\n"
        (environment.work / "summary.json").write_text(text, encoding="utf-8")
        printer.line(f"finished; files in {environment.work}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
