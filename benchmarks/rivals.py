"""The same work as others write it: the naive loop, the report's algorithm, the grad-cam package.

Written from SCIENCE.md's account of them, with what costs them their time and without the defects
that change what is computed.
"""

import contextlib
import io
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from benchmarks.paired import measure, median, ratio
from benchmarks.progress import runnable
from benchmarks.setting import EPSILON, EPSILON_LOW
from benchmarks.step import PGD_AT, Workbench, plain, reweighted
from benchmarks.table import at_least, at_most, heading, ratio_line
from partcore.methods import Reweighted
from partcore.randomness import generator

CHANNELS = 32
"""How many of 512 channels the report's code scores."""
OURS = "part++, feature space, at image"


def contiguous(bench: Workbench) -> Workbench:
    """Return a bench with the same weights and batch in PyTorch's default layout, NCHW."""
    model = deepcopy(bench.model).to(memory_format=torch.contiguous_format)
    return Workbench(model, bench.x.contiguous(), bench.y)


def naive_step(bench: Workbench, epsilon: Tensor | float = EPSILON) -> None:
    """PGD-10 and an update as usually written: every backward pass reaches the weights too."""
    bench.model.eval()
    x = bench.x
    noise = 2 * torch.rand(x.shape, generator=generator(2)) - 1
    x_adv = (x + epsilon * noise).clamp(0, 1)
    for _ in range(10):
        leaf = x_adv.detach().requires_grad_()
        bench.model.zero_grad()
        F.cross_entropy(bench.model(leaf), bench.y).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        stepped = x_adv + EPSILON / 4 * leaf.grad.sign()
        x_adv = torch.min(torch.max(stepped, x - epsilon), x + epsilon).clamp(0, 1)
    bench.model.train()
    bench.optimiser.zero_grad()
    F.cross_entropy(bench.model(x_adv), bench.y).backward()  # type: ignore[no-untyped-call]
    bench.optimiser.step()


# -- the report's algorithm -------------------------------------------------------------------


class Hooks:
    """Keeps a layer's activations and their gradients."""

    def __init__(self, layer: nn.Module) -> None:
        self.activations = self.gradients = torch.empty(0)
        self._handle = layer.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:  # noqa: ARG002
        self.activations = output
        if output.requires_grad:
            output.register_hook(self._keep_gradient)  # type: ignore[no-untyped-call]

    def _keep_gradient(self, gradient: Tensor) -> None:
        self.gradients = gradient

    def remove(self) -> None:
        """Take the hook off."""
        self._handle.remove()


def report_step(bench: Workbench) -> None:
    """PART++ as the report's algorithm reads: three maps, each by its own passes, then PGD."""
    bench.model.eval()
    hooks = Hooks(bench.model.body)
    raw = [
        grad_cam(bench, hooks, _mean_weights),
        grad_cam(bench, hooks, _plus_plus_weights),
        score_cam(bench, hooks),
    ]
    hooks.remove()
    naive_step(bench, radii(torch.stack([min_max(enlarge(one)) for one in raw]).mean(dim=0)))


def grad_cam(bench: Workbench, hooks: Hooks, weigh: Callable[[Hooks], Tensor]) -> Tensor:
    """Eq. 3 to 5: a forward and a backward pass for each map, (N, h, w)."""
    bench.model.zero_grad()
    logits = bench.model(bench.x)
    logits.gather(1, bench.y[:, None]).sum().backward()
    return (weigh(hooks) * hooks.activations).sum(dim=1).relu().detach()


def _mean_weights(hooks: Hooks) -> Tensor:
    return hooks.gradients.mean(dim=(2, 3), keepdim=True)


def _plus_plus_weights(hooks: Hooks) -> Tensor:
    g, a = hooks.gradients, hooks.activations
    share = g**2 / (2 * g**2 + a.sum(dim=(2, 3), keepdim=True) * g**3 + 1e-6)
    return (share * g.relu()).sum(dim=(2, 3), keepdim=True)


@torch.no_grad()
def score_cam(bench: Workbench, hooks: Hooks) -> Tensor:
    """Eq. 6 over the first channels: a pass of the masked batch for each, (N, h, w)."""
    bench.model(bench.x)
    activations = hooks.activations[:, :CHANNELS].clone()
    baseline = _probability(bench, torch.zeros_like(bench.x))
    heat = torch.zeros_like(activations[:, 0])
    for channel in range(CHANNELS):
        mask = min_max(enlarge(activations[:, channel]))[:, None]
        weight = _probability(bench, bench.x * mask) - baseline
        heat += weight[:, None, None] * activations[:, channel]
    return heat.relu()


def _probability(bench: Workbench, x: Tensor) -> Tensor:
    likely: Tensor = bench.model(x).softmax(dim=1)
    return likely.gather(1, bench.y[:, None])[:, 0]


def enlarge(maps: Tensor) -> Tensor:
    """(N, h, w) to (N, 32, 32)."""
    return F.interpolate(maps[:, None], size=32, mode="bilinear", align_corners=False)[:, 0]


def min_max(maps: Tensor) -> Tensor:
    """Scale every map to [0, 1] by itself, (N, H, W)."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def radii(heat: Tensor) -> Tensor:
    """Eq. 7, centred, and Eq. 8: (N, H, W) to (N, 1, H, W)."""
    mask = torch.sigmoid(10 * (min_max(heat) - 0.5))[:, None]
    return EPSILON_LOW + mask * (EPSILON - EPSILON_LOW)


# -- the package ------------------------------------------------------------------------------


def package_step(bench: Workbench) -> None:
    """PART++ with the grad-cam package's three maps, Score-CAM over all channels."""
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, ScoreCAM

    maps = [package_map(kind, bench) for kind in (GradCAM, GradCAMPlusPlus, ScoreCAM)]
    naive_step(bench, radii(torch.stack(maps).mean(dim=0)))


def package_map(kind: Callable[..., Callable[..., object]], bench: Workbench) -> Tensor:
    """Return the package's map of each image, normalised by itself, (N, H, W)."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(c) for c in bench.y.tolist()]
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        found = kind(model=bench.model, target_layers=[bench.model.body])(bench.x, targets)
    return torch.as_tensor(found)


# -- figures ----------------------------------------------------------------------------------


def report_naive(bench: Workbench, *, rounds: int) -> None:
    """Print what our step of plain PGD-AT takes of the naive one."""
    other, naive = contiguous(bench), "the same, written naively"
    narrow = Workbench(bench.model, bench.x, bench.y, torch.bfloat16)
    in_half = "pgd-at, attack and update in bf16"
    runs = {
        naive: lambda: naive_step(other),
        PGD_AT: lambda: bench.step(plain()),
        in_half: lambda: narrow.step(plain()),
    }
    times = measure({name: runs[name] for name in runnable(runs)}, rounds=rounds)
    heading("pgd-at / the same step written naively")
    targets = {PGD_AT: at_most(0.62), in_half: at_most(0.36)}
    for name in times:
        seconds = median(times, name) / len(bench.x)
        ratio_line(name, seconds, ratio(times, name, naive), targets.get(name))


def report_others(bench: Workbench, *, rounds: int, small: int, small_rounds: int) -> None:
    """Print how many times longer the report's algorithm and the package take."""
    heading("others' part++ / ours, times as long")
    _against(bench, "the report's algorithm, 32 channels", report_step, rounds=rounds, least=2.8)
    few = Workbench(bench.model, bench.x[:small], bench.y[:small])
    name = f"grad-cam package, {small} images"
    _against(few, name, package_step, rounds=small_rounds, least=20)


def _against(
    bench: Workbench, name: str, theirs: Callable[[Workbench], None], *, rounds: int, least: float
) -> None:
    other = contiguous(bench)
    ours = reweighted("score-cam", "feature space", at=Reweighted)
    times = measure({OURS: lambda: bench.step(ours), name: lambda: theirs(other)}, rounds=rounds)
    for each in times:
        seconds = median(times, each) / len(bench.x)
        target = at_least(least) if each == name else None
        ratio_line(each, seconds, ratio(times, each, OURS), target)
