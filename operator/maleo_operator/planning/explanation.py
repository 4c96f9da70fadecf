"""Why a plan is what it is: what was not taken, and what blocks where nothing fits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from maleo_api.meta import Basis
from maleo_api.quantities import DURATION, ENERGY, show
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.problem import Blocker, Plan, Rejected, Retry
from maleo_operator.planning.solver import Candidate, Refused, Search

_CODES: Final = {
    "latency": "LatencyTooTight",
    "energy": "EnergyTooTight",
    "accuracy": "AccuracyTooHigh",
    "rate": "RateTooHigh",
}
_TEMPORARY: Final = {"NotAvailable", "UnitOccupied", "ReconfigurationTooSlow", "ReconfigurationUnknown"}


def reject(found: Sequence[Candidate], refused: Sequence[Refused]) -> tuple[Rejected, ...]:
    """Classes of what was not taken, the largest first; of what is feasible only the chosen is taken."""
    counts = Counter((r.candidate, r.code) for r in refused)
    examples = {(r.candidate, r.code): r.example for r in refused}
    rows = [Rejected(c, count, code, "", examples[c, code]) for (c, code), count in counts.items()]
    for candidate in found:
        for name, amount in candidate.shortfalls.items():
            where = ">".join(dict.fromkeys(p.unit.node.name for p in candidate.pieces))
            label = f"{candidate.mode} {where} {candidate.variant.label}"
            rows.append(Rejected(label, 1, _CODES[name], f"-{amount:.0%}", label))
    return tuple(sorted(rows, key=lambda r: (-r.count, r.candidate, r.code))[:16])


def block_all(search: Search) -> Blocker:
    """Every way broke a structural rule: one that may pass is told first, then the one that stopped most."""
    counts = Counter(r.code for r in search.refused)
    usual = {"ModeNotAllowed", "FormatUnsupported", "RuntimeUnsupported"}
    split_only = search.demand.mission.spec.modes == ["Split"]
    whole = {"NoLegalCut"} if split_only else set()  # what stops a model whatever the fleet
    order = sorted(
        counts, key=lambda code: (code in usual, code not in whole, code not in _TEMPORARY, -counts[code], code)
    )
    if not order:
        return Blocker("NoDevice", "Waiting", "no device is known that could run a part of this model")
    example = next(r for r in search.refused if r.code == order[0])
    rest = ", ".join(f"{code} {counts[code]}" for code in order[1:])
    message = f"{order[0]} rules out {counts[order[0]]} ways, such as {example.candidate} ({example.example})"
    retry: Retry = "CannotNow" if _TEMPORARY & set(counts) else "CannotEver"
    return Blocker(order[0], retry, f"{message}; also {rest}" if rest else message)


def block_best(search: Search, best: Candidate, built: Plan) -> Iterable[Blocker]:
    """What the least bad plan breaks, the largest shortfall first."""
    temporary = any(r.code in _TEMPORARY for r in search.refused) or any(u.capacity < 1 for u in search.units)
    where = ">".join(built.nodes)
    for name in sorted(best.shortfalls, key=lambda n: (-best.shortfalls[n], n)):
        told = _shortfall(search.demand, name, built)
        message = f"the least bad way is {built.mode} on {where} with {built.variant}: {told}"
        yield Blocker(_CODES[name], "CannotNow" if temporary else "CannotEver", message)


def _shortfall(demand: Demand, name: str, built: Plan) -> str:
    if name == "latency" and demand.latency:
        over = built.latency.value - demand.latency.value
        limit = show(DURATION, demand.latency.value)
        return f"{show(DURATION, built.latency.value)} where {limit} is allowed, needs +{show(DURATION, over)}"
    if name == "energy" and demand.energy:
        if built.energy.basis is Basis.UNKNOWN:
            return "its energy is unknown, and unknown satisfies no Hard limit"
        over = built.energy.value - demand.energy.value
        limit = show(ENERGY, demand.energy.value)
        return f"{show(ENERGY, built.energy.value)} where {limit} is allowed, needs +{show(ENERGY, over)}"
    if name == "accuracy" and demand.accuracy:
        if built.accuracy is None:
            return "no variant states an accuracy for this metric and data set"
        return f"{built.accuracy.value:.1%} where {demand.accuracy.value:.1%} is asked for"
    return f"it sustains {built.rate.value:.1f}/s where {demand.rate:.1f}/s is asked for"
