"""Lloyd's k-means (1957, https://doi.org/10.1109/TIT.1982.1056489), many sets at a time.

Nothing is drawn: the start is farthest-first traversal (Gonzalez, 1985).
"""

import torch
from torch import Tensor


def k_means(points: Tensor, counted: Tensor, *, k: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Cluster the counted points of every set by themselves.

    points: (N, K, D); counted: (N, K) bool. Returns centroids (N, k, D), the means of their points,
    and the cluster of every point, (N, K); that of an uncounted point means nothing. A cluster may
    be empty where points coincide or are fewer than k.
    """
    centroids = farthest_first(points, counted, k=k)
    for _ in range(iterations):
        centroids = _means(points, counted, nearest(points, centroids), centroids)
    cluster = nearest(points, centroids)
    return _means(points, counted, cluster, centroids), cluster


def farthest_first(points: Tensor, counted: Tensor, *, k: int) -> Tensor:
    """Return k points of every set, (N, k, D): that nearest to the mean, then the farthest."""
    rows = torch.arange(len(points), device=points.device)
    share = counted.to(points.dtype) / counted.sum(dim=1, keepdim=True).clamp(min=1)
    mean = torch.einsum("nk,nkd->nd", share, points)
    from_mean = (points - mean[:, None]).square().sum(dim=2)
    chosen = [points[rows, from_mean.masked_fill(~counted, torch.inf).argmin(dim=1)]]
    distance = torch.full_like(from_mean, torch.inf)
    for _ in range(k - 1):
        distance = distance.minimum((points - chosen[-1][:, None]).square().sum(dim=2))
        chosen.append(points[rows, distance.masked_fill(~counted, -1.0).argmax(dim=1)])
    return torch.stack(chosen, dim=1)


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the index of every point's nearest centroid, (N, K)."""
    # Without the product form, whose rounding separates a point from itself.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points, centroids, compute_mode=mode).argmin(dim=2)


def _means(points: Tensor, counted: Tensor, cluster: Tensor, previous: Tensor) -> Tensor:
    """Return the mean of every cluster's counted points, (N, k, D); an empty one stays."""
    belongs = torch.nn.functional.one_hot(cluster, previous.shape[1]) * counted[:, :, None]
    size = belongs.sum(dim=1)[:, :, None]
    sums = torch.einsum("nkc,nkd->ncd", belongs.to(points.dtype), points)
    return torch.where(size > 0, sums / size.clamp(min=1), previous)
