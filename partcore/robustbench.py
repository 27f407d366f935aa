"""Published checkpoints of RobustBench and TRADES-like code, brought into this lab's format.

``python -m partcore.robustbench FILE --model wrn-28-10 --out X.safetensors``

FILE is what ``torch.save`` wrote: a state dict, alone or under ``state_dict``, ``model`` and the
like (``--entry`` names any other, say ``last``). It is read with ``weights_only=True``: nothing in
it is executed. ``module.`` and ``model.`` before names are dropped, half and double precision
become single. Names are translated by :data:`LAYOUTS`:

=================  =============================  =============================================
model              ours                           theirs
=================  =============================  =============================================
preact-resnet18    body.stage1.0.conv1            layer1.0.conv1 (shortcut: shortcut.0)
                   body.bn, head.linear           bn, linear
wrn-28-10, -34-10  body.stage1.0.conv1            block1.layer.0.conv1 (shortcut: convShortcut)
                   body.bn, head.linear           bn1, fc
                   (none)                         sub_block1, which no forward pass uses: dropped
resnet18           body.0, body.1, body.3 to .6   conv1, bn1, layer1 to layer4
                   downsample, head.linear        shortcut, linear
all                normalise.mean, normalise.std  mu or mean, sigma or std (also in ``normalize.``)
=================  =============================  =============================================

Most published files do not hold the normalisation, although the code around them may apply one; a
wrong one costs accuracy and raises no error. Without ``--mean`` and ``--std`` and without buffers
in the file it is the identity. In RobustBench's code for CIFAR-10 that is right for Zhang2019
(TRADES), Carmon2019, Wang2020 and Wu2020; Rice2020, Kireev2021 and Chen2020Efficient take
``--mean 0.4914 0.4822 0.4465 --std 0.2471 0.2435 0.2616``, Hendrycks2019 0.5 throughout. Measure
the clean accuracy of what was imported before believing its robustness.

Not read: DeepMind's layout (``init_conv``, SiLU, other padding), and PreAct ResNets without the
last batch norm (Wong2020, Andriushchenko2020), whose shortcuts also skip the activation.
"""

import argparse
import hashlib
import pickle
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Generator, Tensor

from domain.errors import CheckpointInvalid, LabError
from partcore import checkpoint
from partcore.checkpoint import SavedFile
from partcore.models import MODELS

ENTRIES = ("state_dict", "model_state_dict", "model", "net")
"""Where published files keep their state dict, if it is not the whole file."""
WRAPPERS = ("module.", "model.", "_orig_mod.")
"""What DataParallel, wrapping modules and compilation put before every name."""
MEANS = ("mu", "mean", "normalize.mu", "normalize.mean")
DEVIATIONS = ("sigma", "std", "normalize.sigma", "normalize.std")
COUNTER = "num_batches_tracked"
SHOWN = 6
"""Problems an error message names of each kind."""

# What PyTorch's reader raised on thousands of truncated and altered files, besides UnpicklingError.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True)
class Layout:
    """How published code names the tensors of one of our networks."""

    renames: Sequence[tuple[str, str]]
    """Regular expressions on our names, applied in turn, and what replaces a match."""
    stem: str
    """Their first convolution's weight, (width, channels, 3, 3)."""
    head: str
    """Their linear layer's weight, (classes, features)."""
    unused: tuple[str, ...] = ()
    """Beginnings of names that no forward pass uses."""

    def theirs(self, ours: str) -> str:
        """Return the published name of a tensor of ours."""
        for pattern, replacement in self.renames:
            ours = re.sub(pattern, replacement, ours)
        return ours


WIDE_RESNET = Layout(
    renames=(
        (r"^body\.stage(\d)\.", r"block\1.layer."),
        (r"^body\.bn\.", "bn1."),
        (r"^body\.", ""),
        (r"\.shortcut\.", ".convShortcut."),
        (r"^head\.linear\.", "fc."),
    ),
    stem="conv1.weight",
    head="fc.weight",
    unused=("sub_block1.",),
)
LAYOUTS: Mapping[str, Layout] = {
    "preact-resnet18": Layout(
        renames=(
            (r"^body\.stage(\d)\.", r"layer\1."),
            (r"^body\.", ""),
            (r"\.shortcut\.", ".shortcut.0."),
            (r"^head\.", ""),
        ),
        stem="conv1.weight",
        head="linear.weight",
    ),
    "wrn-28-10": WIDE_RESNET,
    "wrn-34-10": WIDE_RESNET,
    "resnet18": Layout(
        renames=(
            (r"^body\.0\.", "conv1."),
            (r"^body\.1\.", "bn1."),
            *((rf"^body\.{stage + 2}\.", f"layer{stage}.") for stage in range(1, 5)),
            (r"\.downsample\.", ".shortcut."),
            (r"^head\.", ""),
        ),
        stem="conv1.weight",
        head="linear.weight",
    ),
}


# -- reading ----------------------------------------------------------------------------------


def read(path: Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in a file of ``torch.save``, without executing anything of it.

    ``entry`` names where in the file it is; None finds it. Raises CheckpointInvalid.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointInvalid(_refused(path, error)) from error
    except _UNREADABLE as error:
        raise CheckpointInvalid(f"{path.name} is no readable PyTorch file: {error}") from error
    return _unwrapped(_state_in(content, path, entry), path)


def _refused(path: Path, error: pickle.UnpicklingError) -> str:
    # PyTorch's own message goes on to say how to run the file's code after all.
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = f" ({named[1]})" if named else ""
    return f"{path.name} holds more than tensors{what} and was not run; save its state dict alone"


def _state_in(content: object, path: Path, entry: str | None) -> Mapping[str, Tensor]:
    if entry is None and _is_state(content):
        return content
    parts = content if isinstance(content, Mapping) else {}
    wanted = ENTRIES if entry is None else (entry,)
    found = {name: part for name in wanted if _is_state(part := parts.get(name))}
    if len(found) == 1:
        return next(iter(found.values()))
    held = ", ".join(str(name) for name in (found or parts)) or "nothing by name"
    raise CheckpointInvalid(
        f"{path.name} has {len(found)} state dicts under {', '.join(wanted)}; it holds {held}"
    )


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    )


def _unwrapped(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        bare = _bare(name)
        if bare in plain:
            raise CheckpointInvalid(f"{path.name} holds {bare} twice")
        if not _is_plain(tensor):
            raise CheckpointInvalid(f"{path.name} does not store {bare} as a plain tensor")
        plain[bare] = tensor
    return plain


def _is_plain(tensor: Tensor) -> bool:
    # Strides of zero would let a small file claim a tensor larger than the memory.
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            return _bare(name.removeprefix(wrapper))
    return name


# -- translation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalisation:
    """What published code does to images in [0, 1] first: (x - mean) / std, by channel."""

    mean: Sequence[float]
    std: Sequence[float]


def translate(
    state: Mapping[str, Tensor], model: str, normalisation: Normalisation | None = None
) -> dict[str, Tensor]:
    """Return the state of our network ``model`` from a published one.

    ``normalisation`` is what code around the published network applies; None takes the buffers of
    the state, or none. Raises CheckpointInvalid with every tensor that is missing, unexpected, of
    another shape, or not finite.
    """
    layout = LAYOUTS[model]
    rest = {k: v for k, v in state.items() if not k.startswith(layout.unused)}
    channels = _extent(rest, layout.stem, dim=1, default=3)
    buffers = _normalisation(rest, normalisation, channels)
    expected = _expected(model, channels, _extent(rest, layout.head, dim=0, default=10))
    theirs = {layout.theirs(name): name for name in expected if name not in buffers}
    for name in theirs:
        if name.endswith(COUNTER):  # files from before PyTorch 0.4.1 do not count
            rest.setdefault(name, torch.tensor(0))
    _compare(rest, {name: expected[ours] for name, ours in theirs.items()}, model)
    return buffers | {ours: _converted(rest[name], name) for name, ours in theirs.items()}


def _extent(state: Mapping[str, Tensor], name: str, *, dim: int, default: int) -> int:
    tensor = state.get(name)
    return default if tensor is None or tensor.dim() <= dim else tensor.shape[dim]


def _expected(model: str, channels: int, classes: int) -> dict[str, Tensor]:
    """Return our state on the meta device, for its names and shapes."""
    with torch.device("meta"):
        ones = torch.ones(channels)
        network = MODELS[model](
            channels=channels, classes=classes, mean=ones, std=ones, generator=Generator("cpu")
        )
    return network.state_dict()


def _normalisation(
    rest: dict[str, Tensor], given: Normalisation | None, channels: int
) -> dict[str, Tensor]:
    """Take the normalisation out of ``rest``; return it under our names."""
    means = [rest.pop(name) for name in MEANS if name in rest]
    deviations = [rest.pop(name) for name in DEVIATIONS if name in rest]
    if len(means) != len(deviations) or len(means) > 1:
        raise CheckpointInvalid(
            f"the file holds {len(means)} means and {len(deviations)} deviations of images"
        )
    if means and given is not None:
        raise CheckpointInvalid("the file holds a normalisation; do not give another")
    if means:
        mean, std = (_converted(t, "normalisation").flatten() for t in (*means, *deviations))
    else:
        known = given or Normalisation([0.0] * channels, [1.0] * channels)
        mean, std = torch.tensor(known.mean), torch.tensor(known.std)
    if len(mean) != channels or len(std) != channels or not (std > 0).all():
        raise CheckpointInvalid(
            f"the normalisation needs {channels} means and positive deviations, "
            f"not {mean.tolist()} and {std.tolist()}"
        )
    shape = (1, channels, 1, 1)
    return {"normalise.mean": mean.view(shape), "normalise.std": std.view(shape)}


def _compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], model: str) -> None:
    shared = [name for name in expected if name in state]
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if state[name].shape != expected[name].shape
        ],
        "of another kind": [
            f"{name} ({state[name].dtype})"
            for name in shared
            if state[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }
    told = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointInvalid(f"the file is no {model}; " + "; ".join(told))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _converted(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor as we keep it: float32 and finite, counters as they are."""
    if not tensor.is_floating_point():
        return tensor.detach().to(torch.int64)
    converted = tensor.detach().to(torch.float32).contiguous()
    if not converted.isfinite().all():
        raise CheckpointInvalid(f"{name} is not finite everywhere")
    if name.endswith("running_var") and (converted < 0).any():
        raise CheckpointInvalid(f"{name} is negative somewhere")
    return converted


# -- the command ------------------------------------------------------------------------------


def convert(
    path: Path,
    out: Path,
    *,
    model: str,
    entry: str | None = None,
    normalisation: Normalisation | None = None,
) -> SavedFile:
    """Import one file. Raises CheckpointInvalid, DiskFull; ``out`` is then as it was."""
    state = translate(read(path, entry=entry), model, normalisation)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    metadata = {
        "format": 1,
        "model": model,
        "imported": {"file": path.name, "sha256": sha256, "entry": entry},
        "mean": state["normalise.mean"].flatten().tolist(),
        "std": state["normalise.std"].flatten().tolist(),
    }
    return checkpoint.save(out, checkpoint.prefixed("model", state), metadata)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 when the file cannot be imported."""
    options = _parser().parse_args(arguments)
    normalisation = None
    if options.mean or options.std:
        normalisation = Normalisation(options.mean or [], options.std or [])
    try:
        saved = convert(
            options.file,
            options.out,
            model=options.model,
            entry=options.entry,
            normalisation=normalisation,
        )
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _, metadata = checkpoint.load(saved.path)
    sys.stdout.write(
        f"{saved.path}: {options.model}, sha256 {saved.sha256}\n"
        f"images are normalised by mean {metadata['mean']} and std {metadata['std']}\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m partcore.robustbench")
    parser.add_argument("file", type=Path, metavar="FILE", help="what torch.save wrote")
    parser.add_argument("--model", required=True, choices=sorted(LAYOUTS))
    parser.add_argument("--out", required=True, type=Path, help="the .safetensors file to write")
    parser.add_argument("--entry", help="where in FILE the state dict is, if not in a usual place")
    parser.add_argument("--mean", type=float, nargs="+", help="subtracted from each channel first")
    parser.add_argument("--std", type=float, nargs="+", help="what each channel is divided by")
    return parser


if __name__ == "__main__":
    sys.exit(main())
