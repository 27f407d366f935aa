"""Channel scores from a few exact ones: many of a network's masks are near copies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from partcore.cams.k_means import k_means
from partcore.cams.readout import Readout
from partcore.cams.scores import Quantity, Scores, is_alive, score_masks, target_logit, unit_masks


@dataclass(frozen=True)
class ClusteredScores:
    """Exact scores at the k centroids of an image's masks; a channel has its centroid's.

    Costs k forward passes at most.
    """

    k: int = 16
    iterations: int = 10
    refine: Scores | None = None
    chunk: int = 256

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:
        """Return (N, K)."""
        features = readout.features
        alive = is_alive(features)
        masks = unit_masks(features).flatten(2)  # (N, K, h w)
        k = min(self.k, masks.shape[1])
        centroids, cluster = k_means(masks, alive, k=k, iterations=self.iterations)
        belongs = torch.nn.functional.one_hot(cluster, k) * alive[:, :, None]  # (N, K, k)
        used = belongs.any(dim=1)
        image = used.nonzero()[:, 0]
        at_centroid = masks.new_zeros(used.shape)
        at_centroid[used] = score_masks(
            readout,
            image,
            centroids[used].reshape(-1, *features.shape[2:]),
            quantity,
            chunk=self.chunk,
        )
        scores = at_centroid.gather(1, cluster)
        if self.refine is not None:
            between = self.refine(readout, quantity).masked_fill(~alive, 0.0)
            total = torch.einsum("nkc,nk->nc", belongs.to(between), between)
            mean = total / belongs.sum(dim=1).clamp(min=1)
            scores = scores + between - mean.gather(1, cluster)
        return scores.masked_fill(~alive, -torch.inf)
