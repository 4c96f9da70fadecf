"""Plan builder: turns a candidate into a plan, with estimates for each partition, each transfer and the whole."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite

from maleo_api.basis import BASIS_RANK
from maleo_api.meta import Basis
from maleo_api.mission import Mode
from maleo_api.model import Codec, Model, Tensor, bytes_across, size_of
from maleo_planner.cost_model.analog import guaranteed_accuracy, writes_weights
from maleo_planner.cost_model.codec_cost import codec_costs, find_codec
from maleo_planner.cost_model.mg1 import free_share
from maleo_planner.cost_model.reconfiguration import is_occupied, reconfiguration_time
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.inventory.fleet_index import LinkSegment
from maleo_planner.single.candidate import Candidate, CandidatePartition
from maleo_planner.single.migration_cost import compute_migration_cost
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.mission_solver import evaluate_plan
from maleo_planner.single.objective import MIN_STEP_SECONDS
from maleo_planner.types.problem import Estimate, Fallback, NodeFacts, Plan, PlannedPartition, PlannedTransfer
from maleo_planner.types.requirements import Requirements, accuracy_margin
from maleo_planner.types.variants import RunnableVariant


def build_plan(problem: MissionProblem, candidate: Candidate, *, with_fallback: bool = True) -> Plan:
    """Build the plan of a candidate; with `with_fallback` including its fallback and migration cost."""
    requirements, variant, source = problem.requirements, candidate.variant, problem.source
    partitions = tuple(_partition(problem, variant, partition) for partition in candidate.partitions)
    transfers = _transfers(problem, variant, candidate.partitions)
    entry_unit, fallback = _choose_entry(problem, candidate.mode, partitions, with_fallback=with_fallback)
    steps = [p.compute for p in partitions] + [p.wait for p in partitions if p.wait.value]
    steps += [t.time for t in transfers]
    latency_mean = _sum_estimates(steps)
    tail = sum(step.value + requirements.z * step.sigma for step in steps)
    energy = _sum_estimates([p.energy for p in partitions] + [t.energy for t in transfers if t.energy.value or t.codec])
    accuracy = _accuracy(requirements, variant, candidate.partitions)
    loads = [problem.load(variant, partition.unit) for partition in candidate.partitions]
    computing = [p.compute.value / free_share(load.utilisation) for p, load in zip(partitions, loads, strict=True)]
    links = _link_times(problem, candidate.partitions, transfers)
    codec_seconds = _codec_times(problem, variant, candidate.partitions)
    bottleneck = max([*computing, *links, *codec_seconds, MIN_STEP_SECONDS])
    built = Plan(
        mission=requirements.mission.key,
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
        latency=Estimate(tail, 0.0, latency_mean.basis, latency_mean.source),
        energy=energy,
        rate=Estimate(1 / bottleneck, 0.0, latency_mean.basis, "slowest pipeline stage"),
        margins={},
        objective=candidate.objective,
        terms=candidate.terms,
    )
    built = replace(built, margins=_margins(requirements, built))
    return replace(built, switching=compute_migration_cost(problem, built)) if with_fallback else built


def _accuracy(
    requirements: Requirements, variant: RunnableVariant, partitions: Sequence[CandidatePartition]
) -> Estimate | None:
    """Return the accuracy of the plan: of the variant, less tolerances and losses at cuts; None if unknown."""
    accuracy = guaranteed_accuracy(requirements.accuracy_of(variant), [partition.unit for partition in partitions])
    loss = sum(
        requirements.accuracy_loss(variant, partition.first - 1, _codec(variant, partition))
        for partition in partitions[1:]
    )
    return replace(accuracy, value=accuracy.value - loss) if accuracy is not None else None


def _partition(problem: MissionProblem, variant: RunnableVariant, partition: CandidatePartition) -> PlannedPartition:
    """Return the planned partition, with its estimates."""
    costs, load = problem.costs(variant, partition.unit), problem.load(variant, partition.unit)
    assert costs is not None
    estimate, queue = costs.estimate(partition.first, partition.last), load.queue
    known = estimate.energy == estimate.energy
    energy_source = f"{partition.unit.typical_power} x time"
    if writes_weights(problem.requirements, partition.unit):
        energy_source += f", plus weights written every {problem.requirements.mission.spec.model.updated_every}"
    return PlannedPartition(
        first=partition.first,
        last=partition.last,
        node=partition.unit.node.name,
        unit=partition.unit.name,
        memory=float(costs.blocks.memory[partition.first, partition.last]),
        compute=Estimate(estimate.mean, estimate.sigma, estimate.basis, estimate.source),
        nominal=estimate.nominal,
        wait=Estimate(queue.mean, queue.sigma, Basis.MODELLED, "queueing on a shared unit"),
        energy=Estimate(estimate.energy, 0.0, Basis.MODELLED, energy_source) if known else Estimate(0.0),
        taken_from=variant.exit_outputs if partition.last == len(variant.blocks) - 1 else (),
        codec=_codec(variant, partition),
        inputs=_boundary(problem.model, variant, partition.first - 1),
        outputs=_boundary(problem.model, variant, partition.last),
        providers=partition.unit.providers(variant),
        simulated=partition.unit.simulated,
        turn=reconfiguration_time(variant, partition.unit, load),
    )


def _codec(variant: RunnableVariant, partition: CandidatePartition) -> Codec | None:
    """Return the codec in which the partition receives its input; None if it is not encoded."""
    return find_codec(variant, partition.first - 1, partition.codec) if partition.codec else None


def _boundary(model: Model, variant: RunnableVariant, after: int) -> tuple[Tensor, ...]:
    """Return the tensors after block `after`: the inputs of the model for -1, its outputs for the last block."""
    if after < 0:
        return tuple(model.spec.inputs)
    if after == len(variant.blocks) - 1:
        return tuple(model.spec.outputs)
    cut = variant.blocks[after].cut
    assert cut is not None, "plans cut at legal cuts only"
    return tuple(cut.tensors)


def _transfers(
    problem: MissionProblem, variant: RunnableVariant, partitions: Sequence[CandidatePartition]
) -> tuple[PlannedTransfer, ...]:
    """Return the transfers between nodes, in data order."""
    found, before = [], problem.source
    for i, partition in enumerate(partitions):
        node = partition.unit.node
        if node.name != before.name:
            found.append(
                _transfer(problem, variant, before, partitions[i - 1].unit if i else partition.unit, partition)
            )
        before = node
    return tuple(found)


def _transfer(
    problem: MissionProblem,
    variant: RunnableVariant,
    before: NodeFacts,
    sender: UnitFacts,
    partition: CandidatePartition,
) -> PlannedTransfer:
    """Return the transfer of the tensors and of the answer, including encoding and decoding."""
    node, link, codec = partition.unit.node, problem.link(before, partition.unit.node), _codec(variant, partition)
    assert link is not None
    form = codec or (variant.blocks[partition.first - 1].cut if partition.first else None)
    size = bytes_across(form) if form else size_of(problem.model.spec.inputs)
    output_bytes = size_of(problem.model.spec.outputs)
    time, joules = link.transfer_time(size, output_bytes), link.transfer_energy(size, output_bytes)
    sides = codec_costs(codec, variant, sender, partition.unit, problem.processor) if codec else ()
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
        wire=(size + output_bytes) / link.bandwidth.value + link.return_delay(output_bytes),
        energy=Estimate(joules, 0.0, Basis.MODELLED, f"Link {link.name}") if known else Estimate(0.0, source="codec"),
        codec=partition.codec,
        coding=(sides[0].joules, sides[1].joules) if known and sides else (0.0, 0.0),
    )


def _link_times(
    problem: MissionProblem, partitions: Sequence[CandidatePartition], transfers: Sequence[PlannedTransfer]
) -> Iterable[float]:
    """Return the seconds per request on each link segment over all crossings, divided by its free share."""
    nodes = [problem.source, *(partition.unit.node for partition in partitions)]
    found = dict[LinkSegment | None, float]()
    hops = [(a, b) for a, b in pairwise(nodes) if a.name != b.name]
    for transfer, hop in zip(transfers, hops, strict=True):
        segment = problem.index.segment(*hop)
        found[segment] = found.get(segment, 0.0) + transfer.wire / free_share(problem.reserved_share(*hop))
    return found.values()


def _codec_times(
    problem: MissionProblem, variant: RunnableVariant, partitions: Sequence[CandidatePartition]
) -> Iterable[float]:
    """Yield the seconds of encoding and of decoding at each codec; each is a pipeline stage of its own."""
    for before, partition in pairwise(partitions):
        if (codec := _codec(variant, partition)) is not None:
            yield from (
                side.seconds for side in codec_costs(codec, variant, before.unit, partition.unit, problem.processor)
            )


def update_estimates(problem: MissionProblem, plan: Plan) -> Plan:
    """Return the plan with estimates for the present reservations of other missions, without fallback.

    The plan itself is returned if no queueing delay changed, or if it is no longer possible.
    """
    candidate = evaluate_plan(problem, plan) if _has_changed_waits(problem, plan) else None
    return build_plan(problem, candidate, with_fallback=False) if candidate is not None else plan


def add_fallback(problem: MissionProblem, plan: Plan) -> Plan:
    """Return the plan with its fallback and migration cost, and unchanged estimates."""
    entry_unit, fallback = _choose_entry(problem, plan.mode, plan.partitions)
    plan = replace(plan, entry_unit=entry_unit, fallback=fallback)
    return replace(plan, switching=compute_migration_cost(problem, plan))


def _has_changed_waits(problem: MissionProblem, plan: Plan) -> bool:
    """Return True if the queueing delay of a partition differs from that in the plan."""
    variant = problem.find_variant(plan.variant, plan.exit)
    units = [problem.index.unit((part.node, part.unit)) for part in plan.partitions]
    queues = [problem.load(variant, unit).queue for unit in units if unit is not None and variant is not None]
    return [(p.wait.value, p.wait.sigma) for p in plan.partitions] != [(queue.mean, queue.sigma) for queue in queues]


def _choose_entry(
    problem: MissionProblem, mode: Mode, partitions: Sequence[PlannedPartition], *, with_fallback: bool = True
) -> tuple[str, Fallback | None]:
    """Return the unit of the entry slot, and its fallback.

    The fallback stays loaded in case another node of the plan is lost; a Local plan needs none.
    """
    entry_units = sorted(problem.input_units, key=lambda u: u.name)
    first = partitions[0]
    if first.node == problem.source.name:
        entry_units = [unit for unit in entry_units if unit.name == first.unit]
    if mode == "Local":
        return first.unit, None
    options = (
        []
        if not with_fallback
        else [option for unit in entry_units if (option := _best_fallback(problem, unit, partitions)) is not None]
    )
    if options:
        best = min(options, key=lambda f: (f.partition.compute.value, f.partition.unit))
        return best.partition.unit, best
    names = [unit.name for unit in entry_units]
    return (names[0] if names else "host/cpu"), None


def _best_fallback(problem: MissionProblem, unit: UnitFacts, partitions: Sequence[PlannedPartition]) -> Fallback | None:
    """Return the fastest variant that fits on the unit as a whole, next to partitions of the plan; None if none does.

    Variants that keep the accuracy floor are preferred.
    """
    own_memory = sum(p.memory for p in partitions if (p.node, p.unit) == unit.key)
    floor, load = problem.requirements.accuracy, problem.loads[unit.key]
    if is_occupied(unit, load):
        return None  # an exclusive unit that another mission reserves
    options = []
    for variant in problem.runnable_variants():
        if problem.find_incompatibility(variant, unit) is not None:
            continue
        whole_model = _partition(problem, variant, CandidatePartition(unit, 0, len(variant.blocks) - 1))
        if not isfinite(whole_model.compute.value):
            continue
        if unit.memory is not None and whole_model.memory + own_memory + load.memory > unit.memory:
            continue
        accuracy = guaranteed_accuracy(problem.requirements.accuracy_of(variant), [unit])
        misses_floor = floor is not None and floor.hard and (accuracy is None or accuracy.value < floor.value)
        fallback = Fallback(variant.name, variant.artifacts[0], whole_model, variant.exit)
        options.append((misses_floor, whole_model.compute.value, variant.label, fallback))
    return min(options, key=lambda row: row[:3])[3] if options else None


def _sum_estimates(estimates: Iterable[Estimate]) -> Estimate:
    """Return the sum of the estimates, with the weakest of their bases; basis Unknown if there are none."""
    parts = list(estimates)
    weakest = max((f.basis for f in parts), key=BASIS_RANK.__getitem__, default=Basis.UNKNOWN)
    sources = ", ".join(dict.fromkeys(f.source for f in parts if f.source))
    return Estimate(sum(f.value for f in parts), sum(f.sigma for f in parts), weakest, sources[:200])


def _margins(requirements: Requirements, built: Plan) -> dict[str, float]:
    """Return the relative margins of the plan by name, not clipped; unknown energy and accuracy have none."""
    margins = {}
    if requirements.latency is not None:
        margins["latency"] = (requirements.latency.value - built.latency.value) / requirements.latency.value
    if requirements.energy is not None and built.energy.basis is not Basis.UNKNOWN:
        margins["energy"] = (requirements.energy.value - built.energy.value) / requirements.energy.value
    if requirements.accuracy is not None and built.accuracy is not None:
        margins["accuracy"] = accuracy_margin(built.accuracy.value, requirements.accuracy.value)
    return margins
