"""Plan builder: turns a candidate into a plan with the figures of each partition, each transfer and the whole."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite

from maleo_api.meta import Basis
from maleo_api.mission import Mode
from maleo_api.model import Codec, Model, Tensor, bytes_across, size_of
from maleo_planner.cost_model.analog import lower, writes
from maleo_planner.cost_model.codec_cost import code, find_codec
from maleo_planner.cost_model.mg1 import leave
from maleo_planner.cost_model.reconfiguration import is_occupied, turn
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.inventory.fleet_index import Wire
from maleo_planner.single.candidate import Candidate, Piece
from maleo_planner.single.migration_cost import switch
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import find
from maleo_planner.single.objective import QUICKEST
from maleo_planner.types.basis import STRENGTH
from maleo_planner.types.problem import Fallback, Figure, NodeFacts, Plan, PlannedPartition, PlannedTransfer
from maleo_planner.types.requirements import Demand, accuracy_margin
from maleo_planner.types.variants import Edition


def build(problem: MissionProblem, candidate: Candidate, *, spare: bool = True) -> Plan:
    """Return the plan of a candidate and, if `spare`, its fallback and the cost of switching to it."""
    demand, variant, source = problem.demand, candidate.variant, problem.source
    partitions = tuple(_partition(problem, variant, piece) for piece in candidate.pieces)
    transfers = _transfers(problem, variant, candidate.pieces)
    entry_unit, fallback = _entry(problem, candidate.mode, partitions, spare=spare)
    steps = [p.compute for p in partitions] + [p.wait for p in partitions if p.wait.value]
    steps += [t.time for t in transfers]
    latency_mean = _sum(steps)
    tail = sum(step.value + demand.z * step.sigma for step in steps)
    energy = _sum([p.energy for p in partitions] + [t.energy for t in transfers if t.energy.value or t.codec])
    accuracy = _accuracy(demand, variant, candidate.pieces)
    loads = [problem.load(variant, piece.unit) for piece in candidate.pieces]
    within = [p.compute.value / leave(load.share) for p, load in zip(partitions, loads, strict=True)]
    links, coding = _link_times(problem, candidate.pieces, transfers), _coding_times(problem, variant, candidate.pieces)
    slowest = max([*within, *links, *coding, QUICKEST])
    built = Plan(
        mission=demand.mission.key,
        model=problem.model.metadata.name,
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
        rate=Figure(1 / slowest, 0.0, latency_mean.basis, "slowest pipeline stage"),
        margins={},
        objective=candidate.objective,
        terms=candidate.terms,
    )
    built = replace(built, margins=_margins(demand, built))
    return replace(built, switching=switch(problem, built)) if spare else built


def _accuracy(demand: Demand, variant: Edition, pieces: Sequence[Piece]) -> Figure | None:
    """Return the variant's accuracy less analogue tolerance and the loss of cuts and codecs; None if it is unknown."""
    figure = lower(demand.accuracy_of(variant), [piece.unit for piece in pieces])
    loss = sum(demand.loss(variant, piece.first - 1, _codec(variant, piece)) for piece in pieces[1:])
    return replace(figure, value=figure.value - loss) if figure is not None else None


def _partition(problem: MissionProblem, variant: Edition, piece: Piece) -> PlannedPartition:
    """Return the planned partition of a piece with its figures."""
    costs, load = problem.costs(variant, piece.unit), problem.load(variant, piece.unit)
    assert costs is not None
    figures, queue = costs.at(piece.first, piece.last), load.queue
    known = figures.energy == figures.energy
    drawn = f"{piece.unit.typical_power} x time"
    if writes(problem.demand, piece.unit):
        drawn += f", plus weights written every {problem.demand.mission.spec.model.updated_every}"
    return PlannedPartition(
        first=piece.first,
        last=piece.last,
        node=piece.unit.node.name,
        unit=piece.unit.name,
        memory=float(costs.shape.memory[piece.first, piece.last]),
        compute=Figure(figures.mean, figures.sigma, figures.basis, figures.source),
        nominal=figures.nominal,
        wait=Figure(queue.mean, queue.sigma, Basis.MODELLED, "queueing on a shared unit"),
        energy=Figure(figures.energy, 0.0, Basis.MODELLED, drawn) if known else Figure(0.0),
        taken_from=variant.taken_from if piece.last == len(variant.blocks) - 1 else (),
        codec=_codec(variant, piece),
        inputs=_boundary(problem.model, variant, piece.first - 1),
        outputs=_boundary(problem.model, variant, piece.last),
        providers=piece.unit.providers(variant),
        simulated=piece.unit.simulated,
        turn=turn(variant, piece.unit, load),
    )


def _codec(variant: Edition, piece: Piece) -> Codec | None:
    """Return the codec in which the piece receives its input; None for none."""
    return find_codec(variant, piece.first - 1, piece.codec) if piece.codec else None


def _boundary(model: Model, variant: Edition, after: int) -> tuple[Tensor, ...]:
    """Return the tensors that cross after block `after`: the model's inputs for -1, its outputs for the last block."""
    if after < 0:
        return tuple(model.spec.inputs)
    if after == len(variant.blocks) - 1:
        return tuple(model.spec.outputs)
    cut = variant.blocks[after].cut
    assert cut is not None, "plans cut at legal cuts only"
    return tuple(cut.tensors)


def _transfers(problem: MissionProblem, variant: Edition, pieces: Sequence[Piece]) -> tuple[PlannedTransfer, ...]:
    """Return the transfers between nodes, in data order."""
    found, before = [], problem.source
    for i, piece in enumerate(pieces):
        node = piece.unit.node
        if node.name != before.name:
            found.append(_transfer(problem, variant, before, pieces[i - 1].unit if i else piece.unit, piece))
        before = node
    return tuple(found)


def _transfer(
    problem: MissionProblem, variant: Edition, before: NodeFacts, sender: UnitFacts, piece: Piece
) -> PlannedTransfer:
    """Return the transfer of the input and of the answer; with a codec, including the work on both sides."""
    node, link, codec = piece.unit.node, problem.link(before, piece.unit.node), _codec(variant, piece)
    assert link is not None
    form = codec or (variant.blocks[piece.first - 1].cut if piece.first else None)
    size = bytes_across(form) if form else size_of(problem.model.spec.inputs)
    answer = size_of(problem.model.spec.outputs)
    time, joules = link.time(size, answer), link.energy(size, answer)
    sides = code(codec, variant, sender, piece.unit, problem.processor) if codec else ()
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
        wire=(size + answer) / link.bandwidth.value + link.detour(answer),
        energy=Figure(joules, 0.0, Basis.MODELLED, f"Link {link.name}") if known else Figure(0.0, source="codec"),
        codec=piece.codec,
        coding=(sides[0].joules, sides[1].joules) if known and sides else (0.0, 0.0),
    )


def _link_times(
    problem: MissionProblem, pieces: Sequence[Piece], transfers: Sequence[PlannedTransfer]
) -> Iterable[float]:
    """Return the seconds that a request takes of each link over all crossings, divided by the share others leave."""
    nodes, found = [problem.source, *(piece.unit.node for piece in pieces)], dict[Wire | None, float]()
    hops = [(a, b) for a, b in pairwise(nodes) if a.name != b.name]
    for transfer, hop in zip(transfers, hops, strict=True):
        wire = problem.index.wire(*hop)
        found[wire] = found.get(wire, 0.0) + transfer.wire / leave(problem.taken(*hop))
    return found.values()


def _coding_times(problem: MissionProblem, variant: Edition, pieces: Sequence[Piece]) -> Iterable[float]:
    """Yield the seconds of each side of each codec; each side is a pipeline stage of its own."""
    for before, piece in pairwise(pieces):
        if (codec := _codec(variant, piece)) is not None:
            yield from (side.seconds for side in code(codec, variant, before.unit, piece.unit, problem.processor))


def renew(problem: MissionProblem, plan: Plan) -> Plan:
    """Return the plan with figures and fallback for the present reservations of others.

    The figures are computed again only if a queueing delay changed and the plan is still possible.
    """
    judged = find(problem, plan) if _waits_otherwise(problem, plan) else None
    if judged is not None:
        return build(problem, judged)
    entry_unit, fallback = _entry(problem, plan.mode, plan.partitions)
    plan = replace(plan, entry_unit=entry_unit, fallback=fallback)
    return replace(plan, switching=switch(problem, plan))


def _waits_otherwise(problem: MissionProblem, plan: Plan) -> bool:
    """Return True if the queueing delay of a partition differs from the one in the plan."""
    edition = problem.edition(plan.variant, plan.exit)
    units = [problem.index.unit((part.node, part.unit)) for part in plan.partitions]
    queues = [problem.load(edition, unit).queue for unit in units if unit is not None and edition is not None]
    return [(p.wait.value, p.wait.sigma) for p in plan.partitions] != [(queue.mean, queue.sigma) for queue in queues]


def _entry(
    problem: MissionProblem, mode: Mode, partitions: Sequence[PlannedPartition], *, spare: bool = True
) -> tuple[str, Fallback | None]:
    """Return the unit of the entry slot and its fallback.

    The fallback is kept loaded in case a remote partition is lost; a local plan needs none.
    """
    here = sorted(problem.here, key=lambda u: u.name)
    first = partitions[0]
    if first.node == problem.source.name:
        here = [unit for unit in here if unit.name == first.unit]
    if mode == "Local":
        return first.unit, None
    options = (
        []
        if not spare
        else [option for unit in here if (option := _best_fallback(problem, unit, partitions)) is not None]
    )
    if options:
        best = min(options, key=lambda f: (f.partition.compute.value, f.partition.unit))
        return best.partition.unit, best
    names = [unit.name for unit in here]
    return (names[0] if names else "host/cpu"), None


def _best_fallback(problem: MissionProblem, unit: UnitFacts, partitions: Sequence[PlannedPartition]) -> Fallback | None:
    """Return the fastest variant that runs as a whole on the unit beside its own partition; None if none does.

    Variants that keep the accuracy floor come before those that do not.
    """
    beside = sum(p.memory for p in partitions if (p.node, p.unit) == unit.key)
    floor, load = problem.demand.accuracy, problem.loads[unit.key]
    if is_occupied(unit, load):
        return None  # an exclusive unit that another mission has reserved
    options = []
    for variant in problem.variants():
        if problem.mismatch(variant, unit) is not None:
            continue
        whole = _partition(problem, variant, Piece(unit, 0, len(variant.blocks) - 1))
        if not isfinite(whole.compute.value):
            continue
        if unit.memory is not None and whole.memory + beside + load.memory > unit.memory:
            continue
        figure = lower(problem.demand.accuracy_of(variant), [unit])
        below = floor is not None and floor.hard and (figure is None or figure.value < floor.value)
        spare = Fallback(variant.name, variant.artifacts[0], whole, variant.exit)
        options.append((below, whole.compute.value, variant.label, spare))
    return min(options, key=lambda row: row[:3])[3] if options else None


def _sum(figures: Iterable[Figure]) -> Figure:
    """Return the sum of the figures with the weakest of their bases; Unknown for no figures."""
    parts = list(figures)
    weakest = max((f.basis for f in parts), key=STRENGTH.__getitem__, default=Basis.UNKNOWN)
    sources = ", ".join(dict.fromkeys(f.source for f in parts if f.source))
    return Figure(sum(f.value for f in parts), sum(f.sigma for f in parts), weakest, sources[:200])


def _margins(demand: Demand, built: Plan) -> dict[str, float]:
    """Return the relative margins of the plan by name, not clipped; without those of unknown energy or accuracy."""
    margins = {}
    if demand.latency is not None:
        margins["latency"] = (demand.latency.value - built.latency.value) / demand.latency.value
    if demand.energy is not None and built.energy.basis is not Basis.UNKNOWN:
        margins["energy"] = (demand.energy.value - built.energy.value) / demand.energy.value
    if demand.accuracy is not None and built.accuracy is not None:
        margins["accuracy"] = accuracy_margin(built.accuracy.value, demand.accuracy.value)
    return margins
