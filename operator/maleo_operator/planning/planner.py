"""The answer for one mission: the best plan with its figures, or what blocks and what would do."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from maleo_api.meta import Basis
from maleo_api.mission import Mission, Mode
from maleo_api.model import Model, Tensor, Variant
from maleo_api.placement import Placement
from maleo_api.quantities import DURATION, ENERGY, RATIO, show
from maleo_operator.planning.cost import size_of
from maleo_operator.planning.demand import Demand, find_input
from maleo_operator.planning.frontier import trace
from maleo_operator.planning.holdings import Holdings
from maleo_operator.planning.index import Index
from maleo_operator.planning.menu import list_menus, narrow, widen
from maleo_operator.planning.problem import (
    Blocker,
    Fallback,
    Feasible,
    Figure,
    Infeasible,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Rejected,
    Relaxation,
    Retry,
    Snapshot,
    Verdict,
)
from maleo_operator.planning.solver import Aim, Candidate, Piece, Refused, Search
from maleo_operator.planning.units import UnitFacts

_STRENGTH: Final = {basis: rank for rank, basis in enumerate(Basis)}
_CODES: Final = {
    "latency": "LatencyTooTight",
    "energy": "EnergyTooTight",
    "accuracy": "AccuracyTooHigh",
    "rate": "RateTooHigh",
    "power": "PowerCapExceeded",
}
_TEMPORARY: Final = {"NotAvailable", "UnitOccupied"}
_ROUND_UP: Final = 1.02  # a relaxation leaves room for its own rounding


def plan(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: Index | None = None,
    holdings: Holdings | None = None,
) -> Verdict:
    """Plan mission `key` (namespace/name) of the snapshot. Same input, same answer.

    index: of this snapshot, or of one that differs in who holds what only; holdings: that count in place of what the
    snapshot says is held. Both are made anew without one.
    """
    index = index or Index(snapshot)
    holdings = holdings or Holdings.of(snapshot, index)
    verdict = _plan(snapshot, snapshot.missions[key], index, aim, holdings)
    if isinstance(verdict, Infeasible) and verdict.least_bad is not None:
        return replace(verdict, relaxations=tuple(_relax(snapshot, key, verdict.least_bad, index, aim, holdings)))
    return verdict


def frontier(snapshot: Snapshot, key: str) -> tuple[Plan, ...]:
    """Every plan of the mission that no other beats in latency, energy and accuracy at once; the quickest first."""
    prepared = prepare(snapshot, snapshot.missions[key], Index(snapshot), "margins")
    return () if isinstance(prepared, Infeasible) else tuple(build(prepared, point) for point in trace(prepared))


def restore(snapshot: Snapshot, key: str, placement: Placement, *, index: Index | None = None) -> Plan | None:
    """The plan that a stored Placement records, with today's figures as if it were alone; None when its parts are not
    there any more.
    """
    index = index or Index(snapshot)
    prepared = prepare(snapshot, snapshot.missions[key], index, "margins", Holdings(index))
    if isinstance(prepared, Infeasible):
        return None
    search = prepared
    units = {unit.key: unit for unit in search.units}
    variant = next((v for v in search.model.spec.variants if v.name == placement.spec.variant), None)
    parts = placement.spec.partitions
    if variant is None or any((p.node, p.unit) not in units for p in parts):
        return None
    pieces = tuple(Piece(units[p.node, p.unit], p.span.first, p.span.last) for p in parts)
    if any(search.costs(variant, piece.unit) is None for piece in pieces):
        return None
    if pieces[-1].last >= len(variant.blocks) or not _is_connected(search, pieces):
        return None
    mode = search.mode_of([piece.unit for piece in pieces])
    return build(search, Candidate(variant, mode, pieces, 0.0, {}, 0.0, 0.0, 0))


def _plan(snapshot: Snapshot, mission: Mission, index: Index, aim: Aim, holdings: Holdings) -> Verdict:
    prepared = prepare(snapshot, mission, index, aim, holdings)
    if isinstance(prepared, Infeasible):
        return prepared
    menus = [] if prepared.sees_all else list_menus(prepared)
    if menus:
        narrow(prepared, menus)
    found = prepared.run()
    if menus and prepared.reach.entry is not None and not any(not c.shortfalls for c in found):
        widen(prepared)
        found = prepared.run()
    rejected = _reject(found, prepared.refused)
    if not found:
        return Infeasible((_no_candidate(prepared),), (), rejected, None)
    best = found[0]
    if best.shortfalls:
        built = build(prepared, best)
        return Infeasible(tuple(_blockers(prepared, best, built)), (), rejected, built)
    by_mode: dict[str, Plan] = {}
    for candidate in found:
        if not candidate.shortfalls and candidate.mode not in by_mode:
            by_mode[candidate.mode] = build(prepared, candidate)
    held = _held_again(prepared, found)
    bound = max(candidate.bound for candidate in found if np.isfinite(candidate.bound))
    if aim == "margins":
        bound = max([bound, *(menu.beyond() for menu in menus)])
    return Feasible(by_mode[best.mode], rejected, by_mode | held, bound)


def _held_again(search: Search, found: Sequence[Candidate]) -> dict[str, Plan]:
    """The plan that is held, as judged now, so that an improvement is measured against staying."""
    held = search.held
    for candidate in found if held else ():
        assert held is not None
        places = [(p.unit.node.name, p.unit.name, p.first, p.last) for p in candidate.pieces]
        if candidate.variant.name == held.variant and places == [
            (p.node, p.unit, p.first, p.last) for p in held.partitions
        ]:
            return {"Held": build(search, candidate)}
    return {}


def prepare(
    snapshot: Snapshot, mission: Mission, index: Index, aim: Aim, holdings: Holdings | None = None
) -> Search | Infeasible:
    """The search, or why there can be none."""
    model = snapshot.models.get(f"{mission.metadata.namespace}/{mission.spec.model.name}")
    sources = find_input(snapshot, mission)
    blocker = None
    if model is None:
        message = f"there is no Model {mission.spec.model.name} in namespace {mission.metadata.namespace}: apply it"
        blocker = Blocker("ModelMissing", "Waiting", message)
    elif len(sources) > 1:
        message = (
            f"the input's selector matches {len(sources)} nodes ({', '.join(sources[:3])}): it must match exactly one"
        )
        blocker = Blocker("AmbiguousInput", "Waiting", message)
    elif not sources or not snapshot.nodes[sources[0]].ready:
        named = mission.spec.input.node or "matched by the input's selector"
        blocker = Blocker("NoInput", "Waiting", f"node {named}, where the data is born, is not there or not ready")
    elif mission.spec.priority_class_name not in {"", *snapshot.priorities}:
        named = mission.spec.priority_class_name
        message = f"there is no PriorityClass {named}, and no pod that names it is admitted: apply it"
        blocker = Blocker("PriorityClassMissing", "Waiting", message)
    if blocker is not None:
        return Infeasible((blocker,), (), (), None)
    assert model is not None
    search = Search(snapshot, Demand.of(mission), model, snapshot.nodes[sources[0]], index, aim, holdings)
    if not search.variants():
        wanted = ", ".join(mission.spec.model.variants)
        message = f"model {mission.spec.model.name} has none of the variants {wanted}"
        return Infeasible((Blocker("VariantMissing", "Waiting", message),), (), (), None)
    return search


def _is_connected(search: Search, pieces: Sequence[Piece]) -> bool:
    nodes = [search.source, *(piece.unit.node for piece in pieces)]
    return all(a.name == b.name or search.link(a, b) is not None for a, b in pairwise(nodes))


# ------------------------------------------------------------------------------------------------ building plans


def build(search: Search, candidate: Candidate, *, spare: bool = True) -> Plan:
    """The candidate with all its figures and, with `spare`, its fallback."""
    demand, variant, source = search.demand, candidate.variant, search.source
    partitions = tuple(_partition(search, variant, piece) for piece in candidate.pieces)
    transfers = _transfers(search, variant, candidate.pieces)
    entry_unit, fallback = _entry(search, candidate.mode, partitions, spare=spare)
    steps = [p.compute for p in partitions] + [p.wait for p in partitions if p.wait.value]
    steps += [t.time for t in transfers]
    latency_mean = _sum(steps)
    tail = sum(step.value + demand.z * step.sigma for step in steps)
    energy = _sum([p.energy for p in partitions] + [t.energy for t in transfers if t.energy.value])
    accuracy = demand.accuracy_of(variant)
    loads = [search.loads[p.node, p.unit] for p in partitions]
    within = [p.compute.value / max(1 - load.share, 1e-9) for p, load in zip(partitions, loads, strict=True)]
    slowest = max([*within, *_link_times(search, candidate.pieces, transfers)])
    built = Plan(
        mission=demand.mission.key,
        model=search.model.metadata.name,
        mode=candidate.mode,
        variant=variant.name,
        precision=variant.precision,
        artifact=variant.artifacts[0],
        exit="",
        entry_node=source.name,
        entry_unit=entry_unit,
        partitions=partitions,
        transfers=transfers,
        fallback=fallback,
        accuracy=accuracy,
        latency_mean=latency_mean,
        latency=Figure(tail, 0.0, latency_mean.basis, latency_mean.source),
        energy=energy,
        rate=Figure(1 / slowest, 0.0, latency_mean.basis, "the slowest stage"),
        margins={},
        objective=candidate.objective,
    )
    return replace(built, margins=_margins(demand, built))


def _partition(search: Search, variant: Variant, piece: Piece) -> PlannedPartition:
    costs, load = search.costs(variant, piece.unit), search.loads[piece.unit.key]
    assert costs is not None
    at = (piece.first, piece.last)
    wait = load.share * load.service / (2 * (1 - load.share)) if load.share < 1 else float("inf")
    joules = float(costs.energy[at])
    known = joules == joules  # noqa: PLR0124 - nan is unknown
    return PlannedPartition(
        first=piece.first,
        last=piece.last,
        node=piece.unit.node.name,
        unit=piece.unit.name,
        memory=float(costs.memory[at]),
        compute=Figure(float(costs.mean[at]), float(costs.sigma[at]), costs.basis, costs.source),
        nominal=float(costs.nominal[at]),
        wait=Figure(wait, wait, Basis.MODELLED, "queue of a shared unit"),
        energy=Figure(joules, 0.0, Basis.MODELLED, "typical power x time") if known else Figure(0.0),
        inputs=_boundary(search.model, variant, piece.first - 1),
        outputs=_boundary(search.model, variant, piece.last),
        providers=piece.unit.providers(variant) or (),
        simulated=piece.unit.simulated,
    )


def _boundary(model: Model, variant: Variant, after: int) -> tuple[Tensor, ...]:
    """The tensors that cross after block `after`: -1 the model's inputs, the last block's its outputs."""
    if after < 0:
        return tuple(model.spec.inputs)
    if after == len(variant.blocks) - 1:
        return tuple(model.spec.outputs)
    cut = variant.blocks[after].cut
    assert cut is not None, "plans cut at legal cuts only"
    return tuple(cut.tensors)


def _transfers(search: Search, variant: Variant, pieces: Sequence[Piece]) -> tuple[PlannedTransfer, ...]:
    found, before, answer = [], search.source, size_of(search.model.spec.outputs)
    for piece in pieces:
        node = piece.unit.node
        if node.name != before.name:
            link = search.link(before, node)
            assert link is not None
            size = size_of(list(_boundary(search.model, variant, piece.first - 1)))
            joules = Figure(link.energy(size, answer), 0.0, Basis.MODELLED, f"Link {link.name}")
            wire = (size + answer) / link.bandwidth.value
            found.append(
                PlannedTransfer(before.name, node.name, size, link.name, link.time(size, answer), wire, joules)
            )
        before = node
    return tuple(found)


def _link_times(search: Search, pieces: Sequence[Piece], transfers: Sequence[PlannedTransfer]) -> Iterable[float]:
    """Seconds of each link that a request takes, in what others leave of it."""
    nodes = [search.source, *(piece.unit.node for piece in pieces)]
    hops = [(a, b) for a, b in pairwise(nodes) if a.name != b.name]
    return (t.wire / max(1 - search.taken(*hop), 1e-9) for t, hop in zip(transfers, hops, strict=True))


def with_fallback(search: Search, plan: Plan) -> Plan:
    """The plan with what others leave room for now as its fallback."""
    entry_unit, fallback = _entry(search, plan.mode, plan.partitions)
    return replace(plan, entry_unit=entry_unit, fallback=fallback)


def _entry(
    search: Search, mode: Mode, partitions: Sequence[PlannedPartition], *, spare: bool = True
) -> tuple[str, Fallback | None]:
    """Where the entry's slot runs, and what it keeps resident for when a partner is lost."""
    here = sorted(search.here, key=lambda u: u.name)
    first = partitions[0]
    if first.node == search.source.name:
        here = [unit for unit in here if unit.name == first.unit]
    if mode == "Local":
        return first.unit, None
    options = (
        []
        if not spare
        else [option for unit in here if (option := _best_fallback(search, unit, partitions)) is not None]
    )
    if options:
        best = min(options, key=lambda f: (f.partition.compute.value, f.partition.unit))
        return best.partition.unit, best
    names = [unit.name for unit in here]
    return (names[0] if names else "host/cpu"), None


def _best_fallback(search: Search, unit: UnitFacts, partitions: Sequence[PlannedPartition]) -> Fallback | None:
    """The quickest variant that keeps the accuracy floor and fits beside the unit's own partition."""
    beside = sum(p.memory for p in partitions if (p.node, p.unit) == unit.key)
    floor = search.demand.accuracy
    options = []
    for variant in search.variants():
        if unit.providers(variant) is None or unit.lacks(variant) or search.costs(variant, unit) is None:
            continue
        whole = _partition(search, variant, Piece(unit, 0, len(variant.blocks) - 1))
        held = search.loads[unit.key].memory
        if unit.memory is not None and whole.memory + beside + held > unit.memory:
            continue
        figure = search.demand.accuracy_of(variant)
        below = floor is not None and floor.hard and (figure is None or figure.value < floor.value)
        options.append((below, whole.compute.value, variant.name, Fallback(variant.name, variant.artifacts[0], whole)))
    return min(options, key=lambda row: row[:3])[3] if options else None


def _sum(figures: Iterable[Figure]) -> Figure:
    """The sum with the weakest basis; Unknown when a part is unknown."""
    parts = list(figures)
    weakest = max((f.basis for f in parts), key=_STRENGTH.__getitem__, default=Basis.UNKNOWN)
    sources = ", ".join(dict.fromkeys(f.source for f in parts if f.source))
    return Figure(sum(f.value for f in parts), sum(f.sigma for f in parts), weakest, sources[:200])


def _margins(demand: Demand, built: Plan) -> dict[str, float]:
    margins = {}
    if demand.latency is not None:
        margins["latency"] = (demand.latency.value - built.latency.value) / demand.latency.value
    if demand.energy is not None and built.energy.basis is not Basis.UNKNOWN:
        margins["energy"] = (demand.energy.value - built.energy.value) / demand.energy.value
    if demand.accuracy is not None and built.accuracy is not None:
        floor = demand.accuracy.value
        margins["accuracy"] = (
            (built.accuracy.value - floor) / (1 - floor) if floor < 1 else built.accuracy.value - floor
        )
    return margins


# ------------------------------------------------------------------------------------------------ explaining


def _reject(found: Sequence[Candidate], refused: Sequence[Refused]) -> tuple[Rejected, ...]:
    """Classes of what was not taken, the largest first; of what is feasible only the chosen is taken."""
    counts = Counter((r.candidate, r.code) for r in refused)
    examples = {(r.candidate, r.code): r.example for r in refused}
    rows = [Rejected(c, count, code, "", examples[c, code]) for (c, code), count in counts.items()]
    for candidate in found:
        for name, amount in candidate.shortfalls.items():
            where = ">".join(dict.fromkeys(p.unit.node.name for p in candidate.pieces))
            label = f"{candidate.mode} {where} {candidate.variant.name}"
            rows.append(Rejected(label, 1, _CODES[name], f"-{amount:.0%}", label))
    return tuple(sorted(rows, key=lambda r: (-r.count, r.candidate, r.code))[:16])


def _no_candidate(search: Search) -> Blocker:
    """Every way broke a structural rule: one that may pass is told first, then the one that stopped most."""
    counts = Counter(r.code for r in search.refused)
    usual, split_only = {"ModeNotAllowed", "FormatUnsupported"}, search.demand.mission.spec.modes == ["Split"]
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


def _blockers(search: Search, best: Candidate, built: Plan) -> Iterable[Blocker]:
    """What the least bad plan breaks, the largest shortfall first."""
    temporary = any(r.code in _TEMPORARY for r in search.refused) or any(u.capacity < 1 for u in search.units)
    where = ">".join(built.nodes)
    for name in sorted(best.shortfalls, key=lambda n: (-best.shortfalls[n], n)):
        told = _shortfall(search.demand, name, built)
        message = f"the least bad way is {built.mode} on {where} with {built.variant}: {told}"
        yield Blocker(_CODES[name], "CannotNow" if temporary else "CannotEver", message)


def _shortfall(demand: Demand, name: str, built: Plan) -> str:  # noqa: PLR0911 - one for each kind
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
    if name == "power":
        return "its units together would go over the power cap of their node"
    return f"it sustains {built.rate.value:.1f}/s where {demand.rate:.1f}/s is asked for"


def _relax(
    snapshot: Snapshot, key: str, least_bad: Plan, index: Index, aim: Aim, holdings: Holdings
) -> Iterable[Relaxation]:
    """Per objective the least change that would do alone, each verified by planning again with it."""
    mission = snapshot.missions[key]
    for name, field, text in _proposals(Demand.of(mission), least_bad):
        relaxed = _with_objective(mission, name, field, text)
        verdict = _plan(replace(snapshot, missions={**snapshot.missions, key: relaxed}), relaxed, index, aim, holdings)
        if isinstance(verdict, Feasible):
            yield Relaxation(name, f"objectives.{name}.{field}: {text}", verdict.plan)


def _proposals(demand: Demand, least_bad: Plan) -> Iterable[tuple[str, str, str]]:
    latency, energy, accuracy = demand.latency, demand.energy, demand.accuracy
    stated = demand.mission.spec.objectives.energy
    if latency is not None and least_bad.latency.value > latency.value:
        yield "latency", "atMost", show(DURATION, least_bad.latency.value * _ROUND_UP)
    over = energy is not None and least_bad.energy.value > energy.value
    if over and stated is not None and stated.per_inference is not None:
        yield "energy", "perInference", show(ENERGY, least_bad.energy.value * _ROUND_UP)
    if accuracy is not None and least_bad.accuracy is not None and least_bad.accuracy.value < accuracy.value:
        yield "accuracy", "atLeast", show(RATIO, least_bad.accuracy.value / _ROUND_UP)


def _with_objective(mission: Mission, name: str, field: str, text: str) -> Mission:
    changed: dict[str, Any] = mission.to_api()
    changed["spec"]["objectives"][name][field] = text
    return Mission.model_validate(changed)
