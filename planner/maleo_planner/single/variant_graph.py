"""Partition graph of a variant in the planning problem of a mission, and the evaluation of its paths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from maleo_planner.cost_model.analog import guaranteed_accuracy
from maleo_planner.cost_model.preferences import preference_penalties
from maleo_planner.graph.edge_costs import EdgeCosts
from maleo_planner.graph.partition_graph import PartitionGraph
from maleo_planner.graph.query import GraphPath, path_cost
from maleo_planner.single.candidate import Candidate, CandidatePartition, partition_keys
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.shared_limits import SharedLimits, SharedUse
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.variants import RunnableVariant


@dataclass(frozen=True, eq=False)
class VariantGraph:
    """Partition graph of a variant; its paths are plans of the problem."""

    problem: MissionProblem
    variant: RunnableVariant
    graph: PartitionGraph

    @cached_property
    def energy_costs(self) -> EdgeCosts:
        """Return the energy costs, with unknown energy as the objective counts it."""
        return self.problem.objective.energy_costs(self.graph)

    @cached_property
    def shared_limits(self) -> SharedLimits:
        """Return the limits that several steps of a path share."""
        problem = self.problem
        return SharedLimits(
            problem.index,
            problem.loads,
            problem.model,
            self.variant,
            self.graph,
            problem.source,
            problem.requirements.rate,
        )

    def within_rate(self) -> "VariantGraph":
        """Return the graph without steps that cannot sustain the rate of the mission by themselves."""
        rate = self.problem.requirements.rate
        return replace(self, graph=self.graph.limit_step_time(1 / rate)) if rate > 0 else self

    def is_possible(self, path: GraphPath) -> bool:
        """Return True if every step of the path is feasible."""
        return bool(np.isfinite(path_cost(self.graph.tail, self.graph, path)))

    def find_incumbent(self) -> GraphPath | None:
        """Return the path of the incumbent; None if it is no longer possible or its mode is not allowed."""
        incumbent = self.problem.incumbent
        if incumbent is None or (incumbent.variant, incumbent.exit) != (self.variant.name, self.variant.exit):
            return None
        path = self.graph.find_path(partition_keys(incumbent)) if incumbent.mode in self.problem.modes else None
        return path if path is not None and self.is_possible(path) else None

    def evaluate(self, path: GraphPath) -> Candidate:
        """Evaluate a path exactly: clipped margins, violations of Hard limits, and whether it is a move."""
        problem, graph = self.problem, self.graph
        requirements, objective = problem.requirements, problem.objective
        mean, tail = path_cost(graph.mean, graph, path), path_cost(graph.tail, graph, path)
        energy = path_cost(self.energy_costs, graph, path)
        shared_use = self.shared_limits.measure(path)
        busy = max(path_cost(graph.busy, graph, path, peak=True), shared_use.link_seconds)
        partitions = tuple(CandidatePartition(*partition) for partition in graph.list_partitions(path))
        units = [partition.unit for partition in partitions]
        accuracy = guaranteed_accuracy(requirements.accuracy_of(self.variant), units)
        loss = path_cost(graph.loss, graph, path)
        shortfalls = objective.shortfalls(latency=tail, energy=energy, accuracy=accuracy, loss=loss)
        shortfalls |= {"rate": requirements.rate * busy - 1, "power": shared_use.power_excess}
        is_move = self._is_move(partitions)
        terms = objective.terms(mean=mean, tail=tail, energy=energy, busy=busy, accuracy=accuracy, loss=loss)
        terms |= {"move": -problem.move_cost} if is_move and problem.move_cost else {}
        return Candidate(
            variant=self.variant,
            mode=problem.mode_of(units),
            partitions=partitions,
            objective=sum(terms.values()),
            shortfalls={name: shortfall for name, shortfall in shortfalls.items() if shortfall > EPSILON},
            latency=tail,
            energy=energy,
            is_move=is_move,
            preference_penalties=preference_penalties(requirements.mission.spec.preference, units),
            terms=terms,
        )

    def path_filter(self, *, strict: bool) -> Callable[[GraphPath], bool]:
        """Return a predicate on complete and partial paths: whether they keep the limits that several steps share.

        If not `strict`, only power caps are checked, which even the closest infeasible plan keeps.
        """
        shared_limits, rate = self.shared_limits, self.problem.requirements.rate

        def keeps_shared_limits(path: GraphPath) -> bool:
            if len(path) < 2:  # noqa: PLR2004 - the graph keeps the limits of a single step
                return True
            shared = shared_limits.measure(path)
            return shared.power_excess <= EPSILON and (not strict or rate * shared.link_seconds <= 1 + EPSILON)

        return keeps_shared_limits

    def shared_time(self) -> Callable[[GraphPath], float]:
        """Return a function of a path: seconds on links that it crosses repeatedly; infinite above a power cap."""
        shared_limits = self.shared_limits

        def measure(path: GraphPath) -> float:
            shared = shared_limits.measure(path) if len(path) > 1 else SharedUse()
            return shared.link_seconds if shared.power_excess <= EPSILON else np.inf

        return measure

    def _is_move(self, partitions: Sequence[CandidatePartition]) -> int:
        """Return 1 if there is an incumbent and the plan differs from it, else 0."""
        incumbent = self.problem.incumbent
        if incumbent is None:
            return 0
        own = [(*p.unit.key, p.last, p.codec) for p in partitions]
        return int(
            (incumbent.variant, incumbent.exit) != (self.variant.name, self.variant.exit)
            or partition_keys(incumbent) != own
        )
