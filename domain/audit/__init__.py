"""The audit: rules over the record of an evaluation, each with its figures and advice.

Pure, and of what is stored alone: it runs after every evaluation and again whenever asked. A rule
answers `holds`, `fails` or `does-not-apply`, never a guess.
"""

from domain.audit.record import REPRESENTATIVE, Record, missing_attacks, tolerance
from domain.audit.rules import RULES, Rule
from domain.results import AuditCheck, AuditReport, Evaluation, Severity, Verdict

__all__ = [
    "REPRESENTATIVE",
    "RULES",
    "Record",
    "audit",
    "audit_again",
    "missing_attacks",
    "tolerance",
]


def audit(record: Record) -> AuditReport:
    """Apply every rule and give the verdict.

    `broken` or `suspicious` if a rule of that severity fails; `incomplete` when clean accuracy,
    PGD-20 or an attack on the margin is missing, the budget ended an attack, or a rule of that
    severity fails (too few images); else `sound`.
    """
    checks = tuple(_apply(rule, record) for rule in RULES)
    return AuditReport(verdict=_verdict(record, checks), checks=checks)


def audit_again(found: Evaluation) -> AuditReport:
    """Apply today's rules to a stored evaluation; one without facts keeps its own verdict."""
    if found.facts is None or found.worst_case.threat is None:
        return found.audit
    record = Record(
        results={result.label: result for result in found.results},
        epsilon=found.worst_case.threat.epsilon,
        worst_case=found.worst_case,
        facts=found.facts,
    )
    return audit(record)


def _verdict(record: Record, checks: tuple[AuditCheck, ...]) -> Verdict:
    failed: set[Severity] = {check.severity for check in checks if check.outcome == "fails"}
    if "broken" in failed:
        return "broken"
    if "suspicious" in failed:
        return "suspicious"
    return "incomplete" if failed or missing_attacks(record) else "sound"


def _apply(rule: Rule, record: Record) -> AuditCheck:
    outcome, detail = rule.test(record)
    return AuditCheck(
        name=rule.name,
        severity=rule.severity,
        outcome=outcome,
        detail=detail,
        advice=rule.advice,
    )
