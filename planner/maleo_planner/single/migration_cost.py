"""Migration cost of a plan: bytes to pull, seconds until all slots are warm, additional memory; in SI units."""

from math import fsum
from typing import Final

from maleo_api.meta import Basis
from maleo_api.model import Artifact
from maleo_api.quantities import BYTES, parse
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.types.problem import Estimate, MigrationCost, Plan, PlannedPartition

_PULL_BYTES_PER_S: Final = 100e6 / 8  # the bandwidth to the registry is not declared anywhere
_LOAD_BYTES_PER_S: Final = 150e6  # 97 MB took 0.6 s from a file in the page cache to a session
_WARM_RUNS: Final = 2
_ASSUMED: Final = "assumed: 100Mbit/s from the registry, 150MB/s to load"


def compute_migration_cost(problem: MissionProblem, plan: Plan) -> MigrationCost:
    """Return the cost of replacing the incumbent by the plan.

    Slots are prepared in parallel, so the time is that of the slowest. Memory counts on units that run a partition of
    the incumbent.
    """
    present = _list_loaded(problem.incumbent) if problem.incumbent is not None else []
    loaded = {_identity(*each) for each in present}
    new = [each for each in _list_loaded(plan) if _identity(*each) not in loaded]
    pulls = {
        (part.node, artifact.digest): parse(BYTES, artifact.size)
        for artifact, part in new
        if artifact.digest not in _cached_artifacts(problem, part.node)
    }
    seconds = [
        pulls.get((part.node, artifact.digest), 0.0) / _PULL_BYTES_PER_S
        + part.memory / _load_speed(problem, part)
        + _WARM_RUNS * part.compute.value
        for artifact, part in new
    ]
    occupied = {(part.node, part.unit) for _, part in present}
    return MigrationCost(
        pull=fsum(pulls.values()),
        time=Estimate(max(seconds, default=0.0), 0.0, Basis.MODELLED, _ASSUMED),
        memory=fsum(part.memory for _, part in new if (part.node, part.unit) in occupied),
    )


def _list_loaded(plan: Plan) -> list[tuple[Artifact, PlannedPartition]]:
    """Return (artifact, partition) of each partition and of the fallback."""
    fallback = [(plan.fallback.artifact, plan.fallback.partition)] if plan.fallback is not None else []
    return [*((plan.artifact, part) for part in plan.partitions), *fallback]


def _load_speed(problem: MissionProblem, part: PlannedPartition) -> float:
    """Return the load speed in bytes/s; writing weights of an Analog unit may be slower."""
    unit = problem.index.unit((part.node, part.unit))
    return min(_LOAD_BYTES_PER_S, (unit.write_speed if unit is not None else None) or _LOAD_BYTES_PER_S)


def _identity(artifact: Artifact, part: PlannedPartition) -> tuple[object, ...]:
    """Return the properties that make a loaded partition reusable: artifact, unit, blocks and codec."""
    return artifact.digest, part.node, part.unit, part.first, part.last, part.codec.name if part.codec else ""


def _cached_artifacts(problem: MissionProblem, node: str) -> frozenset[str]:
    """Return the digests of artifacts that missions run on the node, and that its agent has therefore cached."""
    own = (
        [artifact.digest for artifact, part in _list_loaded(problem.incumbent) if part.node == node]
        if problem.incumbent
        else []
    )
    return frozenset(own).union(*(problem.loads[unit.key].artifacts for unit in problem.index.units_on(node)))
