"""Two evaluations beside each other, paired by sample: what differs, and could it be luck."""

import math
import random
from collections.abc import Iterator, Mapping

from domain.base import Model
from domain.bitmap import Bitmap
from domain.errors import Incomparable
from domain.results import AttackResult, Evaluation, Interval, ThreatModel

RESAMPLES = 2000


class Difference(Model):
    """One attack's outcomes in two evaluations of the same images."""

    label: str
    n: int
    threat: ThreatModel | None = None
    """Of the first; a forced comparison's warnings name the other."""
    accuracy: float
    other_accuracy: float
    only_here: int
    """Images that stand here and not there."""
    only_there: int
    difference: float
    """accuracy - other_accuracy."""
    interval: Interval
    """95 % of the difference, paired bootstrap over images, percentiles."""
    p_value: float
    """McNemar's exact test: how often chance alone would split the discordant images so."""


class Comparison(Model):
    """Every attack that two evaluations share."""

    differences: tuple[Difference, ...]
    warnings: tuple[str, ...] = ()
    """Why the comparison had to be forced; empty for a fair one."""


def compare(here: Evaluation, there: Evaluation, *, force: bool = False) -> Comparison:
    """Pair two evaluations. Raises Incomparable where they differ in images or threat model.

    force: compare the attacks of one label in spite of different threat models, and say so. Other
    images are never compared.
    """
    if (here.data_sha256, here.sample_ids_sha256) != (there.data_sha256, there.sample_ids_sha256):
        raise Incomparable(
            f"they judged other images (the first {here.n}, the second {there.n}); evaluate one of "
            "them again on the images of the other"
        )
    mine, theirs = _by_label(here), _by_label(there)
    shared = [label for label in mine if label in theirs]
    warnings = (*_mismatches(mine, theirs, shared), *_other_unions(here, there))
    if warnings and not force:
        raise Incomparable(
            "; ".join(warnings) + "; evaluate one of them again as the other was, or force the "
            "comparison"
        )
    return Comparison(
        differences=tuple(_difference(mine[label], theirs[label]) for label in shared),
        warnings=warnings,
    )


def _by_label(found: Evaluation) -> dict[str, AttackResult]:
    return {result.label: result for result in found.rows}


def _mismatches(
    mine: Mapping[str, AttackResult], theirs: Mapping[str, AttackResult], shared: list[str]
) -> Iterator[str]:
    for label in shared:
        a, b = mine[label], theirs[label]
        if a.threat != b.threat:
            radii = f"{a.threat or 'none'} and {b.threat or 'none'}"
            yield f"{label}: the threat models differ, {radii}"
        elif a.complete != b.complete or a.cascaded != b.cascaded:
            yield f"{label}: one is complete and on its own, the other is not"


def _other_unions(here: Evaluation, there: Evaluation) -> Iterator[str]:
    """A worst case over more attacks is smaller, whatever the networks are worth."""
    names = [", ".join(sorted(found.counted)) for found in (here, there)]
    if names[0] != names[1]:
        yield f"worst-case: the attacks differ, {' and '.join(name or 'none' for name in names)}"


def _difference(mine: AttackResult, theirs: AttackResult) -> Difference:
    a, b = Bitmap.decode(mine.outcomes, mine.n), Bitmap.decode(theirs.outcomes, theirs.n)
    here, there = (a & ~b).count(), (b & ~a).count()
    return Difference(
        label=mine.label,
        n=mine.n,
        threat=mine.threat,
        accuracy=mine.accuracy,
        other_accuracy=theirs.accuracy,
        only_here=here,
        only_there=there,
        difference=(here - there) / mine.n,
        interval=paired_bootstrap(here, there, mine.n),
        p_value=mcnemar(here, there),
    )


def mcnemar(only_here: int, only_there: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (1947)."""
    n, least = only_here + only_there, min(only_here, only_there)
    tail = sum(math.comb(n, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**n)) if n <= 1000 else _normal_tail(only_here, only_there)


def _normal_tail(only_here: int, only_there: int) -> float:
    """Return the same with continuity correction; over 1,000 discordant images they agree."""
    z = (abs(only_here - only_there) - 1) / math.sqrt(only_here + only_there)
    return math.erfc(max(0.0, z) / math.sqrt(2))


def paired_bootstrap(only_here: int, only_there: int, n: int, *, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval of the difference of two paired accuracies.

    Drawing n images with replacement draws the two discordant counts from a multinomial.
    """
    draw = random.Random(seed)
    p, q = only_here / n, only_there / n
    differences = []
    for _ in range(RESAMPLES):
        here = _binomial(draw, n, p)
        there = _binomial(draw, n - here, q / (1 - p) if p < 1 else 0.0)
        differences.append((here - there) / n)
    differences.sort()
    low, high = round(0.025 * RESAMPLES), round(0.975 * RESAMPLES) - 1
    return Interval(low=differences[low], high=differences[high])


def _binomial(draw: random.Random, n: int, p: float) -> int:
    """Return a binomial draw, by the gaps between successes."""
    if p <= 0:
        return 0
    if p >= 1:
        return n
    count, at = 0, 0
    scale = math.log1p(-p)
    while True:
        at += math.floor(math.log(1 - draw.random()) / scale) + 1
        if at > n:
            return count
        count += 1
