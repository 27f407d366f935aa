"""The rules: each looks at a record and answers with its figures.

Rules on unions are exact; those that compare accuracies allow max(0.2 points, two paired standard
errors). Where a rule does not apply it says so, and never guesses.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from domain.attacks import BLACK_BOX_KINDS, GRADIENT_KINDS, MARGIN_KINDS
from domain.audit.record import REPRESENTATIVE, TOLERANCE, Answer, Record, answer, tolerance
from domain.bitmap import union_of_breaks
from domain.results import AttackResult, Severity, wilson_interval
from domain.units import format_radius


@dataclass(frozen=True)
class Rule:
    """A name, how bad a failure is, what to do, and the test."""

    name: str
    severity: Severity
    advice: str
    test: Callable[[Record], Answer]


# -- what each attack did ---------------------------------------------------------------------


def valid(record: Record) -> Answer:
    """|delta| <= epsilon + 1e-6 in the attack's norm, x_adv finite and in [0, 1]."""
    failures, worst, count = [], 0.0, 0
    for result in record.results.values():
        if result.threat is None or not record.results["clean"].correct:
            continue
        count += 1
        if (seen := result.evidence) is None:
            failures.append(f"{result.label} shows no evidence")
            continue
        limit = float(result.threat.epsilon) + 1e-6
        worst = max(worst, seen.max_abs_delta)
        inside = seen.lowest_pixel >= 0 and seen.highest_pixel <= 1
        if not (seen.finite and inside and seen.max_abs_delta <= limit):
            failures.append(
                f"{result.label}: |delta| up to {seen.max_abs_delta:.6f} of {limit:.6f}, pixels "
                f"{seen.lowest_pixel:.3f} to {seen.highest_pixel:.3f}, finite: {seen.finite}"
            )
    return answer(failures, count, f"largest |delta| {worst:.6f}")


def ran(record: Record) -> Answer:
    """delta != 0 on more than 99 % of the attacked images."""
    shares = {
        r.label: (0.0 if r.evidence is None else r.evidence.moved_fraction)
        for r in record.attacks()
        if not (r.cascaded and not r.passes)
    }
    failures = [
        f"{label} moved {share:.1%} of the images"
        for label, share in shares.items()
        if share <= 0.99
    ]
    least = min(shares.values(), default=1.0)
    return answer(failures, len(shares), f"every attack moved at least {least:.1%} of the images")


def uses_its_radius(record: Record) -> Answer:
    """A gradient attack reaches at least nine tenths of its radius somewhere."""
    failures, least, count = [], 1.0, 0
    for result in record.attacks():
        if result.evidence is None or result.threat is None or not result.threat.epsilon:
            continue
        if result.evidence.moved_fraction == 0:
            continue
        count += 1
        share = result.evidence.max_abs_delta / float(result.threat.epsilon)
        least = min(least, share)
        if share < 0.9:
            failures.append(
                f"{result.label} moved pixels by {result.evidence.max_abs_delta:.2e} at most, "
                f"{share:.1%} of {format_radius(result.threat.epsilon)}"
            )
    return answer(failures, count, f"every attack reached {least:.0%} of its radius")


def silent_success(record: Record) -> Answer:
    """No image that an attack says it broke is right at the attack's own x_adv."""
    seen = [r for r in record.results.values() if r.evidence is not None]
    failures = [
        f"{r.label}: {r.evidence.silent_successes} images"
        for r in seen
        if r.evidence is not None and r.evidence.silent_successes
    ]
    return answer(failures, len(seen), "what was broken on the way is broken at the end")


def reach(record: Record) -> Answer:
    """steps x step_size >= 2 epsilon: an attack that cannot cross its ball is no attack."""
    failures, count = [], 0
    for result in record.attacks():
        if result.kind == "fgsm" or result.threat is None or result.step_size is None:
            continue
        count += 1
        covered = (result.steps or 0) * result.step_size
        if covered < 2 * result.threat.epsilon:
            failures.append(
                f"{result.label} covers {format_radius(covered)} of a diameter of "
                f"{format_radius(2 * result.threat.epsilon)}"
            )
    return answer(failures, count, "every attack can cross its ball")


def zero_gradients(record: Record) -> Answer:
    """At most 1 % of the images have an input gradient that is all zero."""
    shares = {
        r.label: r.evidence.zero_gradient_fraction
        for r in record.attacks()
        if r.evidence and r.kind in GRADIENT_KINDS
    }
    failures = [f"{label}: {share:.1%}" for label, share in shares.items() if share > 0.01]
    most = max(shares.values(), default=0.0)
    return answer(failures, len(shares), f"at most {most:.2%} of the gradients are zero")


# -- attacks against each other ---------------------------------------------------------------


def robust_at_most_clean(record: Record) -> Answer:
    """No image is robust that is wrong when clean: exact, sample by sample."""
    clean = record.correct["clean"]
    extra = {label: (c & ~clean).count() for label, c in record.correct.items()}
    failures = [f"{label}: {n} images right only under attack" for label, n in extra.items() if n]
    return answer(failures, len(extra) - 1, "no image is right only under attack")


def union_exact(record: Record) -> Answer:
    """The worst case is what stands under every attack of the threat model, image by image."""
    counted = [label for label, r in record.results.items() if record.is_within(r)]
    expected = union_of_breaks(record.correct[label] for label in counted)
    told = _survivors(record.worst_case.correct, len(counted) - 1)
    if record.worst_case.outcomes == expected.encode():
        return ("holds", told) if len(counted) > 1 else ("does-not-apply", "no attack to judge")
    return "fails", f"{told}; the attacks' own outcomes leave {expected.count()}"


def _survivors(images: int, attacks: int) -> str:
    whom = "the attack" if attacks == 1 else f"all {attacks} attacks"
    return f"{images} image{'' if images == 1 else 's'} survive{'s' if images == 1 else ''} {whom}"


def monotone(record: Record) -> Answer:
    """FGSM >= PGD-10 >= PGD-20 >= PGD-100 within the paired tolerance."""
    chain = list(record.comparable("fgsm"))
    chain += sorted(record.comparable("pgd"), key=_passes)
    failures = _excesses(record, chain)
    told = " >= ".join(f"{r.label} {r.accuracy:.2%}" for r in chain)
    return answer(failures, max(0, len(chain) - 1), told)


def _passes(result: AttackResult) -> int:
    return (result.steps or 0) * (result.restarts or 1)


def _excesses(record: Record, chain: list[AttackResult]) -> list[str]:
    """Say where a stronger attack leaves more than a weaker one before it."""
    failures = []
    for weaker, stronger in pairwise(chain):
        excess = stronger.accuracy - weaker.accuracy
        allowed = tolerance(record.correct[weaker.label], record.correct[stronger.label])
        if excess > allowed:
            failures.append(
                f"{stronger.label} leaves {excess:.2%} more than {weaker.label} "
                f"(allowed {allowed:.2%})"
            )
    return failures


def converged(record: Record) -> Answer:
    """PGD-20 - PGD-100 <= 1 point, or its paired tolerance, on photographs at 8/255."""
    short, long = record.results.get("pgd-20"), record.results.get("pgd-100")
    found = set(record.comparable("pgd"))
    if short is None or long is None or not {short, long} <= found:
        return "does-not-apply", "needs PGD-20 and PGD-100"
    gap = short.accuracy - long.accuracy
    allowed = max(0.01, tolerance(record.correct["pgd-20"], record.correct["pgd-100"]))
    told = f"PGD-20 - PGD-100 is {100 * gap:.2f} points (allowed {100 * allowed:.2f})"
    if not record.is_usual:
        return "does-not-apply", f"{told}; the limit is for photographs at 8/255"
    return ("holds" if gap <= allowed else "fails"), told


def autoattack_smallest(record: Record) -> Answer:
    """No other attack of the threat model leaves fewer images than AutoAttack does."""
    whole = list(record.comparable("autoattack"))
    others = [r for r in record.comparable(*GRADIENT_KINDS, *BLACK_BOX_KINDS) if r not in whole]
    if not whole or not others:
        return "does-not-apply", "needs AutoAttack and another attack"
    strong = whole[0]
    chain = [_excesses(record, [other, strong]) for other in others]
    failures = [text for found in chain for text in found]
    best = min(others, key=lambda r: r.accuracy)
    told = f"{strong.label} {strong.accuracy:.2%}, {best.label} {best.accuracy:.2%}"
    return answer(failures, len(others), told)


def autoattack_gap(record: Record) -> Answer:
    """PGD-20 - AutoAttack <= 8 points."""
    pgd = next((r for r in record.comparable("pgd") if r.label == "pgd-20"), None)
    whole = next(record.comparable("autoattack"), None)
    if pgd is None or whole is None:
        return "does-not-apply", "needs PGD-20 and AutoAttack"
    gap = pgd.accuracy - whole.accuracy
    told = f"PGD-20 - {whole.label} is {100 * gap:.1f} points"
    if not record.is_usual:
        return "does-not-apply", f"{told}; the limit of 8 is for photographs at 8/255"
    return ("holds" if gap <= 0.08 else "fails"), told


def epsilon_sweep(record: Record) -> Answer:
    """PGD of the same steps leaves ever less at larger radii, and nothing once all is allowed."""
    sweep = [r for r in record.results.values() if _of_sweep(r)]
    sweep.sort(key=lambda r: r.threat.epsilon if r.threat else 0)
    if len(sweep) < 3:
        return "does-not-apply", "needs PGD-20 at three radii"
    failures = _excesses(record, sweep)
    for result in sweep:
        most = _most_at(record, result)
        if most is not None and result.accuracy > most:
            failures.append(f"{result.label} leaves {result.accuracy:.1%}, not under {most:.0%}")
    points = (f"{_radius(r)} {r.accuracy:.1%}" for r in sweep)
    return answer(failures, len(sweep), ", ".join(points))


def _of_sweep(result: AttackResult) -> bool:
    simple = result.complete and not result.cascaded and (result.restarts or 1) == 1
    linf = result.threat is not None and result.threat.norm == "linf"
    return result.kind == "pgd" and result.steps == 20 and simple and linf


def _radius(result: AttackResult) -> str:
    return format_radius(result.threat.epsilon) if result.threat else "0"


def _most_at(record: Record, result: AttackResult) -> float | None:
    """Return what may stand at a radius: 1 % where any image is allowed, 5 % at 8 epsilon."""
    epsilon = result.threat.epsilon if result.threat else Fraction(0)
    if epsilon == 1:
        return 0.01
    if record.facts.dataset in PHOTOGRAPH_SWEEP and epsilon >= 8 * record.epsilon:
        return 0.05
    return None


PHOTOGRAPH_SWEEP = frozenset({"cifar10", "cifar100", "image-folder"})
"""Datasets on which nothing stands at eight times the usual radius."""


def black_box(record: Record) -> Answer:
    """A black box breaks at most 0.2 points (or two standard errors) that no white box broke."""
    white = list(record.comparable(*GRADIENT_KINDS))
    if not any(r.kind in MARGIN_KINDS for r in white):
        return "does-not-apply", "needs a white-box attack on the margin"
    found = {r.label: _only_by(record, r, white) for r in record.comparable(*BLACK_BOX_KINDS)}
    found |= {f"Square of {r.label}": n for r in white if (n := _last_of(r, "square")) is not None}
    if not found:
        return "does-not-apply", "needs Square, alone or as the last of AutoAttack, or a transfer"
    most = max(found, key=lambda label: found[label])
    extra = found[most]
    share = extra / record.worst_case.n
    allowed = max(TOLERANCE, 2 * math.sqrt(share * (1 - share) / record.worst_case.n))
    told = f"{most} alone broke {extra} images, {share:.2%} (allowed {allowed:.2%})"
    return ("holds" if share <= allowed else "fails"), told


def _only_by(record: Record, attack: AttackResult, white: list[AttackResult]) -> int:
    """Return how many images fell to one attack and to no white box."""
    standing = union_of_breaks(record.correct[r.label] for r in white)
    return (standing & ~record.correct[attack.label]).count()


def _last_of(whole: AttackResult, name: str) -> int | None:
    """Return how many images the last stage of an attack broke, None if that is another."""
    if len(whole.stages) < 2 or whole.stages[-1].name != name:
        return None
    return whole.stages[-2].correct - whole.stages[-1].correct


def noise(record: Record) -> Answer:
    """Uniform noise leaves at least what FGSM leaves."""
    chain = [next(record.comparable(kind), None) for kind in ("noise", "fgsm")]
    loud, fgsm = chain
    if loud is None or fgsm is None:
        return "does-not-apply", "needs noise and FGSM"
    told = f"{loud.label} {loud.accuracy:.2%}, FGSM {fgsm.accuracy:.2%}"
    return answer(_excesses(record, [loud, fgsm]), 1, told)


def catastrophic_overfitting(record: Record) -> Answer:
    """FGSM - PGD-20 <= 15 points and its tolerance, for training with attacks at this radius.

    On digits, whose radius is six times that of photographs, sound networks reach 15: no verdict.
    """
    fgsm = next(record.comparable("fgsm"), None)
    pgd = next((r for r in record.comparable("pgd") if r.label == "pgd-20"), None)
    applies = record.facts.trained_at == record.epsilon
    if not applies or fgsm is None or pgd is None:
        return "does-not-apply", "needs FGSM, PGD-20 and adversarial training at this radius"
    gap = fgsm.accuracy - pgd.accuracy
    told = f"FGSM - PGD-20 is {100 * gap:.1f} points"
    if not record.is_usual:
        return "does-not-apply", f"{told}; the limit of 15 is for photographs at 8/255"
    allowed = 0.15 + tolerance(record.correct["fgsm"], record.correct["pgd-20"])
    return ("holds" if gap <= allowed else "fails"), told


def too_good(record: Record) -> Answer:
    """ResNet-18 on CIFAR-10 at 8/255 without extra data: known limits of AutoAttack and margins."""
    facts = record.facts
    known = facts.model == "resnet18" and facts.dataset == "cifar10" and not facts.extra_data
    whole = [(r, 0.53) for r in record.comparable("autoattack")]
    limits = whole or [(r, 0.58) for r in record.comparable(*MARGIN_KINDS)]
    if not (known and record.is_usual and limits):
        return "does-not-apply", "known limits are for ResNet-18 on CIFAR-10 at 8/255"
    best, most = min(limits, key=lambda limit: limit[0].accuracy)
    told = f"{best.accuracy:.2%} under {best.label}; at most {most:.0%} is known"
    return ("holds" if best.accuracy <= most else "fails"), told


# -- what was measured apart from attacks -----------------------------------------------------


def reproduced(record: Record) -> Answer:
    """The checkpoint, loaded again from disk, classifies the kept images as recorded."""
    if record.facts.mismatches is None:
        return "does-not-apply", "no adversarial image was kept"
    if record.facts.mismatches:
        return "fails", f"{record.facts.mismatches} kept images are classified otherwise"
    return "holds", "the reloaded checkpoint classifies every kept image as recorded"


def deterministic(record: Record) -> Answer:
    """Logits depend neither on the batch nor on the pass: relative difference under 1e-4."""
    if record.facts.logit_difference is None:
        return "does-not-apply", "not measured"
    told = f"largest relative difference {record.facts.logit_difference:.1e}"
    return ("holds" if record.facts.logit_difference < 1e-4 else "fails"), told


def logits(record: Record) -> Answer:
    """The network gives logits, not probabilities, whose gradients fade."""
    if record.facts.gives_probabilities is None:
        return "does-not-apply", "not measured"
    if record.facts.gives_probabilities:
        return "fails", "all outputs lie in [0, 1] and those of an image sum to 1"
    return "holds", "outputs are no probabilities"


def held_out(record: Record) -> Answer:
    """At most 1 % of the judged images are, byte for byte, among those trained on."""
    seen = record.facts.seen_in_training
    if seen is None:
        return "does-not-apply", "not measured"
    share = seen / record.worst_case.n
    told = f"{seen} of {record.worst_case.n} judged images are among the training images"
    return ("holds" if share <= 0.01 else "fails"), told


def representative(record: Record) -> Answer:
    """At least 100 images are judged, and some of every class."""
    n, facts = record.worst_case.n, record.facts
    failures = []
    if n < REPRESENTATIVE:
        failures.append(
            f"{n} judged images, under {REPRESENTATIVE}: an accuracy may be off by {_widest(n):.0%}"
        )
    judged, classes = facts.classes_judged, facts.classes
    if judged is not None and classes is not None and judged < classes:
        failures.append(f"{classes - judged} of {classes} classes have no judged image")
    of = f" of {judged} classes" if judged is not None else ""
    held = f"; `best` chosen on {facts.held_out} held-out ones" if facts.held_out else ""
    return answer(failures, 1, f"{n} judged images{of}{held}")


def _widest(n: int) -> float:
    """Return the half width of the widest 95 % interval of n images."""
    interval = wilson_interval(n // 2, n)
    return (interval.high - interval.low) / 2


def mask_alive(record: Record) -> Answer:
    """The mask is not saturated on most pixels and moves the radii by a tenth of their range."""
    mask = record.facts.mask
    if mask is None:
        return "does-not-apply", "this run's radii are not decided by a soft mask"
    high, low = mask["mask/saturated_high"], mask["mask/saturated_low"]
    std = mask["epsilon/std"]
    alive = max(high, low) <= 0.7 and std >= 0.1 * record.facts.epsilon_gap
    told = f"S > 0.95 on {high:.0%}, < 0.05 on {low:.0%} of the pixels, std(epsilon_w) {std:.2e}"
    return ("holds" if alive else "fails"), told


RULES: tuple[Rule, ...] = (
    Rule("valid", "broken", "The projection is wrong: look at the attack's last step.", valid),
    Rule("ran", "broken", "The attack did nothing: check that it is called at all.", ran),
    Rule(
        "uses-its-radius",
        "broken",
        "The radius is in another unit than the pixels: they are in [0, 1], so 8 means 8/255.",
        uses_its_radius,
    ),
    Rule(
        "silent-success",
        "broken",
        "Keep the iterate that broke the image; a network that answers at random does this too.",
        silent_success,
    ),
    Rule(
        "robust-at-most-clean",
        "broken",
        "Clean and attacked images are not the same, or the network's mode differs.",
        robust_at_most_clean,
    ),
    Rule(
        "union-exact",
        "broken",
        "The worst case is not the union of the attacks: compare sample ids and their order.",
        union_exact,
    ),
    Rule(
        "monotone",
        "suspicious",
        "More steps must not leave more images: step size too large, or masked gradients.",
        monotone,
    ),
    Rule("converged", "suspicious", "PGD-20 is too weak here: report PGD-100.", converged),
    Rule("reach", "suspicious", "Use more or larger steps: steps x step_size >= 2 epsilon.", reach),
    Rule(
        "autoattack-smallest",
        "suspicious",
        "AutoAttack attacked another model, other images or other preprocessing.",
        autoattack_smallest,
    ),
    Rule(
        "autoattack-gap",
        "suspicious",
        "PGD flatters this network: gradients are masked. Trust the worst case alone.",
        autoattack_gap,
    ),
    Rule(
        "epsilon-sweep",
        "suspicious",
        "A larger radius must leave less, and nothing at last: gradients are broken, or the label "
        "leaks into the image.",
        epsilon_sweep,
    ),
    Rule(
        "black-box",
        "suspicious",
        "A search without gradients beat all that use them: gradients are masked.",
        black_box,
    ),
    Rule("noise", "suspicious", "FGSM does worse than noise: look at the threat model.", noise),
    Rule(
        "zero-gradients",
        "suspicious",
        "Logits are saturated or gradients masked: attack the margin, scale the logits.",
        zero_gradients,
    ),
    Rule(
        "reproduced",
        "broken",
        "What was attacked is not what is stored: compare the checkpoint with the run's.",
        reproduced,
    ),
    Rule(
        "deterministic",
        "broken",
        "The network is random or in training mode while it is judged.",
        deterministic,
    ),
    Rule(
        "logits",
        "suspicious",
        "Judge the network without its softmax: attacks climb logits.",
        logits,
    ),
    Rule(
        "held-out",
        "broken",
        "Judge images the network was not trained on.",
        held_out,
    ),
    Rule(
        "representative",
        "incomplete",
        "Judge more images: raise data.test_limit, which takes as many of every class.",
        representative,
    ),
    Rule(
        "catastrophic-overfitting",
        "suspicious",
        "Training beat its own attack only: use more steps or a random start.",
        catastrophic_overfitting,
    ),
    Rule("too-good", "suspicious", "Look for test data in training, or a label leak.", too_good),
    Rule(
        "mask-alive",
        "suspicious",
        "The mask changes nothing: choose a centred mask or another tau.",
        mask_alive,
    ),
)
