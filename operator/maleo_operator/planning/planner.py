"""The answer for one mission: the best plan with its figures, or what blocks and what would do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from typing import Final

from maleo_api.meta import Basis
from maleo_api.mission import AccuracyObjective, Mission, Mode
from maleo_api.model import Codec, Model, Tensor, size_of
from maleo_api.placement import Placement
from maleo_operator.planning.analog import lower, writes
from maleo_operator.planning.blockers import block_all, block_best, diagnose
from maleo_operator.planning.coding import Effort, effort, find_codec
from maleo_operator.planning.compatibility import find_mismatch
from maleo_operator.planning.demand import Demand, accuracy_margin, find_input
from maleo_operator.planning.edition import Edition
from maleo_operator.planning.explanation import Explanation, classify, compare, reject
from maleo_operator.planning.floor import find_reference
from maleo_operator.planning.frontier import trace
from maleo_operator.planning.holdings import Holdings
from maleo_operator.planning.horizon import bound_beyond
from maleo_operator.planning.index import Index, Wire
from maleo_operator.planning.lattice import TIE
from maleo_operator.planning.menu import list_menus, narrow, widen
from maleo_operator.planning.objective import QUICKEST, Aim
from maleo_operator.planning.problem import (
    Blocker,
    Fallback,
    Feasible,
    Figure,
    Frontier,
    Infeasible,
    NodeFacts,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Snapshot,
    Verdict,
)
from maleo_operator.planning.relaxation import Decide, relax
from maleo_operator.planning.solver import Candidate, Piece, Search
from maleo_operator.planning.switching import switch
from maleo_operator.planning.turns import turn
from maleo_operator.planning.units import STRENGTH, UnitFacts

_NO_QUESTION: Final = {"ModelMissing", "AmbiguousInput", "NoInput", "ReferenceMissing"}


def plan(snapshot: Snapshot, key: str, *, aim: Aim = "margins", index: Index | None = None) -> Verdict:
    """Plan mission `key` (namespace/name) of the snapshot. Same input, same answer.

    index: of this snapshot, or of one that differs in who holds what only; made anew without one.
    """
    index = index or Index(snapshot)
    return advise(snapshot, key, decide(snapshot, key, aim=aim, index=index), aim=aim, index=index)


def advise(
    snapshot: Snapshot, key: str, verdict: Verdict, *, aim: Aim = "margins", index: Index | None = None
) -> Verdict:
    """The verdict of `decide`, where nothing fits with what is in the way and what would do: some ten plans more."""
    if isinstance(verdict, Feasible):
        return verdict
    again = _again(snapshot, index or Index(snapshot), aim)
    return replace(
        verdict,
        blockers=diagnose(snapshot, key, verdict, again),
        relaxations=relax(snapshot, key, verdict, again) if verdict.blockers[0].code not in _NO_QUESTION else (),
    )


def explain(
    snapshot: Snapshot, key: str, verdict: Verdict, *, aim: Aim = "margins", index: Index | None = None
) -> Explanation:
    """What else there was, beside the verdict that `plan` gave for the same question."""
    index = index or Index(snapshot)
    prepared = prepare(snapshot, snapshot.missions[key], index, aim)
    if isinstance(prepared, Infeasible):
        return Explanation((), (), ())
    found = prepared.run()
    return Explanation(
        alternatives=compare(snapshot, key, verdict, _again(snapshot, index, aim)),
        classes=classify(prepared, index.units, found),
        displaced=tuple(_displaced(snapshot, verdict.plan, index)) if isinstance(verdict, Feasible) else (),
        floor=prepared.demand.accuracy.value if prepared.demand.accuracy is not None else 0.0,
        better=_better(prepared, found[0], verdict) if found else None,
    )


def _better(search: Search, best: Candidate, verdict: Verdict) -> Plan | None:
    beaten = isinstance(verdict, Feasible) and best.objective > verdict.plan.objective + TIE
    return build(search, best) if beaten and not best.shortfalls else None


def _again(snapshot: Snapshot, index: Index, aim: Aim) -> Decide:
    """Plans changed forms of one snapshot; its index serves those that differ in missions and what is held only."""

    def again(changed: Snapshot, key: str, /, *, aim: Aim = aim) -> Verdict:
        kept = all(getattr(changed, part) is getattr(snapshot, part) for part in ("nodes", "devices", "observations"))
        return decide(changed, key, aim=aim, index=index if kept else Index(changed))

    return again


def _displaced(snapshot: Snapshot, chosen: Plan, index: Index) -> Iterator[str]:
    """Missions whose held plan stands without the chosen one and not beside it."""
    others = {key: plan for key, plan in snapshot.held.items() if key != chosen.mission}

    def stands(key: str, plan: Plan, held: Mapping[str, Plan]) -> bool:
        search = prepare(replace(snapshot, held=held), snapshot.missions[key], index, "margins")
        judged = search.find(plan) if isinstance(search, Search) else None
        return judged is not None and not judged.shortfalls

    for key, plan in sorted(others.items()):
        before = key in snapshot.missions and stands(key, plan, others)
        if before and not stands(key, plan, {**others, chosen.mission: chosen}):
            yield key


def frontier(snapshot: Snapshot, key: str) -> Frontier:
    """The whole trade-off of the mission beside what others hold; empty where it has no plan at all."""
    prepared = prepare(snapshot, snapshot.missions[key], Index(snapshot), "margins")
    if isinstance(prepared, Infeasible):
        return Frontier((), is_whole=True)
    front = trace(prepared)
    return Frontier(tuple(build(prepared, point) for point in front.points), front.is_whole)


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
    spec, parts = placement.spec, placement.spec.partitions
    variant = search.edition(spec.variant, spec.exit)
    if variant is None or any((p.node, p.unit) not in units for p in parts):
        return None
    pieces = tuple(
        Piece(units[p.node, p.unit], p.span.first, p.span.last, p.decoder.codec if p.decoder else "") for p in parts
    )
    if any(search.costs(variant, piece.unit) is None for piece in pieces):
        return None
    if pieces[-1].last >= len(variant.blocks) or not _is_connected(search, pieces):
        return None
    if any(piece.codec and find_codec(variant, piece.first - 1, piece.codec) is None for piece in pieces):
        return None
    mode = search.mode_of([piece.unit for piece in pieces])
    return build(search, Candidate(variant, mode, pieces, 0.0, {}, 0.0, 0.0, 0))


def decide(
    snapshot: Snapshot,
    key: str,
    *,
    aim: Aim = "margins",
    index: Index | None = None,
    holdings: Holdings | None = None,
) -> Verdict:
    """As `plan` without advice, for what is only tried: no relaxations, a rough guess whether what blocks will pass.

    holdings: that count in place of what the snapshot says is held.
    """
    mission, index = snapshot.missions[key], index or Index(snapshot)
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
    if aim != "rate" and not any(not c.shortfalls for c in found):
        found = [*prepared.run_longer(), *found]
    rejected = reject(found, prepared.refused)
    if not found:
        return Infeasible((block_all(prepared),), (), rejected, None)
    best = found[0]
    if best.shortfalls:
        built = build(prepared, best)
        return Infeasible(tuple(block_best(prepared, best, built)), (), rejected, built)
    bound = max([best.objective, prepared.beyond, *(bound_beyond(menu) for menu in menus)])
    held = next((candidate for candidate in found if prepared.held is not None and not candidate.moves), None)
    return Feasible(build(prepared, best), rejected, build(prepared, held) if held is not None else None, bound)


def prepare(
    snapshot: Snapshot, mission: Mission, index: Index, aim: Aim, holdings: Holdings | None = None
) -> Search | Infeasible:
    """The search, or why there can be none."""
    model = snapshot.models.get(f"{mission.metadata.namespace}/{mission.spec.model.name}")
    sources = find_input(snapshot, mission)
    blocker = None
    if model is None:
        message = (
            f"there is no Model {mission.spec.model.name} in namespace {mission.metadata.namespace}: "
            "apply it, or correct spec.model.name"
        )
        blocker = Blocker("ModelMissing", "Waiting", message)
    elif len(sources) > 1:
        message = (
            f"the input's selector matches {len(sources)} nodes ({', '.join(sources[:3])}): it must match exactly one"
        )
        blocker = Blocker("AmbiguousInput", "Waiting", message)
    elif not sources or not snapshot.nodes[sources[0]].ready:
        named = mission.spec.input.node or "matched by the input's selector"
        blocker = Blocker(
            "NoInput", "Waiting", f"node {named}, where the data is born, is not there or not ready: see spec.input"
        )
    elif mission.spec.priority_class_name not in {"", *snapshot.priorities}:
        named = mission.spec.priority_class_name
        message = (
            f"there is no PriorityClass {named}, and no pod that names it is admitted: "
            "apply it, or correct spec.priorityClassName"
        )
        blocker = Blocker("PriorityClassMissing", "Waiting", message)
    elif (accuracy := mission.spec.objectives.accuracy) is not None and _lacks_reference(accuracy, model):
        there = ", ".join(variant.name for variant in model.spec.variants)
        message = (
            f"model {mission.spec.model.name} has no variant {accuracy.relative_to} to measure accuracy by: it has "
            f"{there}; correct spec.objectives.accuracy.relativeTo"
        )
        blocker = Blocker("ReferenceMissing", "Waiting", message)
    if blocker is not None:
        return Infeasible((blocker,), (), (), None)
    assert model is not None
    search = Search(snapshot, Demand.of(mission, model), model, snapshot.nodes[sources[0]], index, aim, holdings)
    if not search.variants():
        wanted = ", ".join(mission.spec.model.variants)
        there = ", ".join(variant.name for variant in model.spec.variants)
        message = (
            f"model {mission.spec.model.name} has none of the variants {wanted} of spec.model.variants: it has {there}"
        )
        return Infeasible((Blocker("VariantMissing", "Waiting", message),), (), (), None)
    return search


def _lacks_reference(objective: AccuracyObjective, model: Model) -> bool:
    """A Soft floor without a reference is one that nothing is known to keep, and blocks nothing."""
    hard = objective.enforcement == "Hard" and objective.relative_to is not None
    return hard and find_reference(objective, model) is None


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
    energy = _sum([p.energy for p in partitions] + [t.energy for t in transfers if t.energy.value or t.codec])
    accuracy = _accuracy(demand, variant, candidate.pieces)
    loads = [search.load(variant, piece.unit) for piece in candidate.pieces]
    within = [p.compute.value / max(1 - load.share, 1e-9) for p, load in zip(partitions, loads, strict=True)]
    links, coding = _link_times(search, candidate.pieces, transfers), _coding_times(search, variant, candidate.pieces)
    slowest = max([*within, *links, *coding, QUICKEST])
    built = Plan(
        mission=demand.mission.key,
        model=search.model.metadata.name,
        mode=candidate.mode,
        variant=variant.name,
        precision=variant.precision,
        artifact=variant.artifacts[0],
        exit=variant.exit,
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
        terms=candidate.terms,
    )
    built = replace(built, margins=_margins(demand, built))
    return replace(built, switching=switch(search, built)) if spare else built


def _accuracy(demand: Demand, variant: Edition, pieces: Sequence[Piece]) -> Figure | None:
    """The variant's, less what analogue units may miss and what the codecs on the way cost."""
    figure = lower(demand.accuracy_of(variant), [piece.unit for piece in pieces])
    loss = sum(demand.loss(variant, _codec(variant, piece)) for piece in pieces)
    return replace(figure, value=figure.value - loss) if figure is not None else None


def _partition(search: Search, variant: Edition, piece: Piece) -> PlannedPartition:
    costs, load = search.costs(variant, piece.unit), search.load(variant, piece.unit)
    assert costs is not None
    figures, queue = costs.at(piece.first, piece.last), load.queue
    known = figures.energy == figures.energy
    drawn = f"{piece.unit.typical_power} x time"
    if writes(search.demand, piece.unit):
        drawn += f", and weights written every {search.demand.mission.spec.model.updated_every}"
    return PlannedPartition(
        first=piece.first,
        last=piece.last,
        node=piece.unit.node.name,
        unit=piece.unit.name,
        memory=float(costs.shape.memory[piece.first, piece.last]),
        compute=Figure(figures.mean, figures.sigma, figures.basis, figures.source),
        nominal=figures.nominal,
        wait=Figure(queue.mean, queue.sigma, Basis.MODELLED, "queue of a shared unit"),
        energy=Figure(figures.energy, 0.0, Basis.MODELLED, drawn) if known else Figure(0.0),
        taken_from=variant.taken_from if piece.last == len(variant.blocks) - 1 else (),
        codec=_codec(variant, piece),
        inputs=_boundary(search.model, variant, piece.first - 1),
        outputs=_boundary(search.model, variant, piece.last),
        providers=piece.unit.providers(variant),
        simulated=piece.unit.simulated,
        turn=turn(variant, piece.unit, load),
    )


def _codec(variant: Edition, piece: Piece) -> Codec | None:
    return find_codec(variant, piece.first - 1, piece.codec) if piece.codec else None


def _boundary(model: Model, variant: Edition, after: int) -> tuple[Tensor, ...]:
    """The tensors that cross after block `after`: -1 the model's inputs, the last block's its outputs."""
    if after < 0:
        return tuple(model.spec.inputs)
    if after == len(variant.blocks) - 1:
        return tuple(model.spec.outputs)
    cut = variant.blocks[after].cut
    assert cut is not None, "plans cut at legal cuts only"
    return tuple(cut.tensors)


def _transfers(search: Search, variant: Edition, pieces: Sequence[Piece]) -> tuple[PlannedTransfer, ...]:
    found, before = [], search.source
    for i, piece in enumerate(pieces):
        node = piece.unit.node
        if node.name != before.name:
            found.append(_transfer(search, variant, before, pieces[i - 1].unit if i else piece.unit, piece))
        before = node
    return tuple(found)


def _transfer(search: Search, variant: Edition, before: NodeFacts, sender: UnitFacts, piece: Piece) -> PlannedTransfer:
    """There, and the answer back; with a codec, the work on both sides too."""
    node, link, codec = piece.unit.node, search.link(before, piece.unit.node), _codec(variant, piece)
    assert link is not None
    crossing = codec.tensors if codec else _boundary(search.model, variant, piece.first - 1)
    size, answer = size_of(list(crossing)), size_of(search.model.spec.outputs)
    time, joules = link.time(size, answer), link.energy(size, answer)
    sides = _code(search, variant, codec, sender, piece.unit) if codec else []
    for side in sides:
        time = replace(time, value=time.value + side.seconds, sigma=time.sigma + side.sigma)
        joules += side.joules
    known = isfinite(joules)
    return PlannedTransfer(
        source=before.name,
        target=node.name,
        size=size,
        link=link.name,
        time=time,
        wire=(size + answer) / link.bandwidth.value,
        energy=Figure(joules, 0.0, Basis.MODELLED, f"Link {link.name}") if known else Figure(0.0, source="codec"),
        codec=piece.codec,
        coding=(sides[0].joules, sides[1].joules) if known and sides else (0.0, 0.0),
    )


def _link_times(search: Search, pieces: Sequence[Piece], transfers: Sequence[PlannedTransfer]) -> Iterable[float]:
    """Seconds of each link that a request takes, however often it crosses it, in what others leave of it."""
    nodes, found = [search.source, *(piece.unit.node for piece in pieces)], dict[Wire | None, float]()
    hops = [(a, b) for a, b in pairwise(nodes) if a.name != b.name]
    for transfer, hop in zip(transfers, hops, strict=True):
        wire = search.index.wire(*hop)
        found[wire] = found.get(wire, 0.0) + transfer.wire / max(1 - search.taken(*hop), 1e-9)
    return found.values()


def _coding_times(search: Search, variant: Edition, pieces: Sequence[Piece]) -> Iterable[float]:
    """Seconds of each side of each codec: stages of their own."""
    for before, piece in pairwise(pieces):
        if (codec := _codec(variant, piece)) is not None:
            yield from (side.seconds for side in _code(search, variant, codec, before.unit, piece.unit))


def _code(search: Search, variant: Edition, codec: Codec, sender: UnitFacts, receiver: UnitFacts) -> list[Effort]:
    """Encoding and decoding."""
    sides = ((codec.encode, sender), (codec.decode, receiver))
    return [effort(work, variant, unit, search.processor(unit.node)) for work, unit in sides]


def renew(search: Search, plan: Plan) -> Plan:
    """The plan with its figures as they are beside what others hold now, and a fallback where these leave room."""
    judged = search.find(plan) if _waits_otherwise(search, plan) else None
    if judged is not None:
        return build(search, judged)
    entry_unit, fallback = _entry(search, plan.mode, plan.partitions)
    plan = replace(plan, entry_unit=entry_unit, fallback=fallback)
    return replace(plan, switching=switch(search, plan))


def _waits_otherwise(search: Search, plan: Plan) -> bool:
    edition = search.edition(plan.variant, plan.exit)
    units = [search.index.unit((part.node, part.unit)) for part in plan.partitions]
    queues = [search.load(edition, unit).queue for unit in units if unit is not None and edition is not None]
    return [(p.wait.value, p.wait.sigma) for p in plan.partitions] != [(queue.mean, queue.sigma) for queue in queues]


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
    floor, load = search.demand.accuracy, search.loads[unit.key]
    if unit.exclusive and (load.share or load.memory):
        return None  # it serves one mission, and others hold it
    options = []
    for variant in search.variants():
        if find_mismatch(variant, unit) is not None:
            continue
        whole = _partition(search, variant, Piece(unit, 0, len(variant.blocks) - 1))
        if unit.memory is not None and whole.memory + beside + load.memory > unit.memory:
            continue
        figure = lower(search.demand.accuracy_of(variant), [unit])
        below = floor is not None and floor.hard and (figure is None or figure.value < floor.value)
        spare = Fallback(variant.name, variant.artifacts[0], whole, variant.exit)
        options.append((below, whole.compute.value, variant.label, spare))
    return min(options, key=lambda row: row[:3])[3] if options else None


def _sum(figures: Iterable[Figure]) -> Figure:
    """The sum with the weakest basis; Unknown when a part is unknown."""
    parts = list(figures)
    weakest = max((f.basis for f in parts), key=STRENGTH.__getitem__, default=Basis.UNKNOWN)
    sources = ", ".join(dict.fromkeys(f.source for f in parts if f.source))
    return Figure(sum(f.value for f in parts), sum(f.sigma for f in parts), weakest, sources[:200])


def _margins(demand: Demand, built: Plan) -> dict[str, float]:
    margins = {}
    if demand.latency is not None:
        margins["latency"] = (demand.latency.value - built.latency.value) / demand.latency.value
    if demand.energy is not None and built.energy.basis is not Basis.UNKNOWN:
        margins["energy"] = (demand.energy.value - built.energy.value) / demand.energy.value
    if demand.accuracy is not None and built.accuracy is not None:
        margins["accuracy"] = accuracy_margin(built.accuracy.value, demand.accuracy.value)
    return margins
