"""Ensembles whose weights are learned while the network trains.

What is learned keeps the class: the weights descend the cross-entropy of the network on the image
masked by the combined map, -log softmax(f(x o M))_c, the quantity ConfidenceWeighted reads off for
each member alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from partcore.cams.ensemble import member_heatmaps, weighted_mean
from partcore.cams.readout import Cam, Readout
from partcore.objectives import cross_entropy


class LearnedWeights(nn.Module):
    """One share a member, the same for every image; alike at first."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(members))

    def forward(self, heat: Tensor) -> Tensor:
        """heat: (members, N, H, W). Returns shares, (members, N), each image's adding up to 1."""
        return self.logits.softmax(dim=0)[:, None].expand(heat.shape[:2])


class StackingHead(nn.Module):
    """Shares of each image from its own heatmaps, by one linear layer; alike at first.

    It sees of every member the mean, the deviation, and the mean product with the others' mean.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * members, members)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, heat: Tensor) -> Tensor:
        """heat: (members, N, H, W). Returns shares, (members, N), each image's adding up to 1."""
        flat = heat.flatten(2)  # (members, N, H W)
        together = (flat * flat.mean(dim=0)).mean(dim=2)
        seen = torch.cat([flat.mean(dim=2), flat.std(dim=2, correction=0), together])
        logits: Tensor = self.linear(seen.T)
        return logits.softmax(dim=1).T


Combiner = LearnedWeights | StackingHead


@dataclass(frozen=True)
class Learned:
    """Members weighted by what was learned."""

    members: tuple[Cam, ...]
    combiner: Combiner

    def heatmaps(self, readout: Readout) -> Tensor:
        """Return every member's heatmap, (members, N, H, W), in [0, 1]."""
        return member_heatmaps(self.members, readout)

    @torch.no_grad()
    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, H, W), in [0, 1]."""
        heat = self.heatmaps(readout)
        return weighted_mean(heat, self.combiner(heat))


def learn(maps: Learned, readout: Readout, *, rate: float) -> float:
    """Take one gradient step of the combiner on a batch; return the loss before it.

    The caller freezes the network's weights. A plain step: there is no state but the weights.
    """
    weights = list(maps.combiner.parameters())
    heat = maps.heatmaps(readout).detach()
    with torch.enable_grad():
        masked = readout.x * weighted_mean(heat, maps.combiner(heat))[:, None]
        loss = cross_entropy(readout.model(masked), readout.y).mean()
        gradients = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.sub_(rate * gradient)
    return float(loss.item())
