"""Partition graph of one variant in a mission's problem, with what evaluates its paths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from maleo_planner.cost_model.analog import lower
from maleo_planner.cost_model.preferences import rank
from maleo_planner.graph.edge_costs import Amount
from maleo_planner.graph.partition_graph import Lattice
from maleo_planner.graph.query import Way, total
from maleo_planner.single.candidate import Candidate, Piece, list_parts
from maleo_planner.single.mission_problem import MissionProblem
from maleo_planner.single.shared_limits import Shared, Sharing
from maleo_planner.types.numeric import TIE
from maleo_planner.types.variants import Edition


@dataclass(frozen=True, eq=False)
class VariantGraph:
    """Partition graph of one variant; its paths are plans of the problem."""

    problem: MissionProblem
    variant: Edition
    graph: Lattice

    @cached_property
    def energy(self) -> Amount:
        """Return the energy costs as the objective counts them."""
        return self.problem.objective.energy(self.graph)

    @cached_property
    def sharing(self) -> Sharing:
        """Return the limits that steps of the graph's paths share."""
        problem = self.problem
        return Sharing(
            problem.index,
            problem.loads,
            problem.model,
            self.variant,
            self.graph,
            problem.source,
            problem.demand.rate,
        )

    def in_time(self) -> "VariantGraph":
        """Return the graph without the steps that by themselves do not sustain the mission's rate."""
        rate = self.problem.demand.rate
        return replace(self, graph=self.graph.no_slower(1 / rate)) if rate > 0 else self

    def is_accurate(self) -> bool:
        """Return True if the variant by itself keeps the Hard accuracy floor."""
        problem = self.problem
        return problem.objective.accuracy_shortfall(problem.demand.accuracy_of(self.variant)) <= TIE

    def is_possible(self, way: Way) -> bool:
        """Return True if every step of the path can be done."""
        return bool(np.isfinite(total(self.graph.tail, self.graph, way)))

    def held_way(self) -> Way | None:
        """Return the path of the incumbent; None if it is no longer possible or its mode not allowed."""
        held = self.problem.held
        if held is None or (held.variant, held.exit) != (self.variant.name, self.variant.exit):
            return None
        way = self.graph.find(list_parts(held)) if held.mode in self.problem.modes else None
        return way if way is not None and self.is_possible(way) else None

    def judge(self, way: Way) -> Candidate:
        """Return the candidate of a path with exact figures: clipped margins, violations of Hard limits, and moves."""
        problem, graph = self.problem, self.graph
        demand, objective = problem.demand, problem.objective
        mean, tail = total(graph.mean, graph, way), total(graph.tail, graph, way)
        energy = total(self.energy, graph, way)
        shared = self.sharing.measure(way)
        busy = max(total(graph.busy, graph, way, peak=True), shared.wire)
        pieces = tuple(Piece(*piece) for piece in graph.pieces(way))
        units = [piece.unit for piece in pieces]
        accuracy = lower(demand.accuracy_of(self.variant), units)
        loss = total(graph.loss, graph, way)
        shortfalls = objective.shortfalls(latency=tail, energy=energy, accuracy=accuracy, loss=loss)
        shortfalls |= {"rate": demand.rate * busy - 1, "power": shared.power}
        moves = self._moves(pieces)
        terms = objective.terms(mean=mean, tail=tail, energy=energy, busy=busy, accuracy=accuracy, loss=loss)
        terms |= {"move": -problem.move_cost} if moves and problem.move_cost else {}
        return Candidate(
            variant=self.variant,
            mode=problem.mode_of(units),
            pieces=pieces,
            objective=sum(terms.values()),
            shortfalls={name: short for name, short in shortfalls.items() if short > TIE},
            latency=tail,
            energy=energy,
            moves=moves,
            preferred=rank(demand.mission.spec.preference, units),
            terms=terms,
        )

    def allows(self, *, strict: bool) -> Callable[[Way], bool]:
        """Return a predicate for complete and partial paths: whether limits shared by several steps are kept.

        If not `strict` only the power cap is checked, which even the closest infeasible plan keeps.
        """
        sharing, rate = self.sharing, self.problem.demand.rate

        def keeps(way: Way) -> bool:
            if len(way) < 2:  # noqa: PLR2004 - the graph keeps the limits of a single step
                return True
            shared = sharing.measure(way)
            return shared.power <= TIE and (not strict or rate * shared.wire <= 1 + TIE)

        return keeps

    def shared_seconds(self) -> Callable[[Way], float]:
        """Return a function of a path: seconds on a link that it crosses repeatedly; infinite over a power cap."""
        sharing = self.sharing

        def measure(way: Way) -> float:
            shared = sharing.measure(way) if len(way) > 1 else Shared()
            return shared.wire if shared.power <= TIE else np.inf

        return measure

    def _moves(self, pieces: Sequence[Piece]) -> int:
        """Return 1 if the plan differs from the incumbent, else 0; 0 without an incumbent."""
        held = self.problem.held
        if held is None:
            return 0
        same = [(*p.unit.key, p.last, p.codec) for p in pieces]
        return int((held.variant, held.exit) != (self.variant.name, self.variant.exit) or list_parts(held) != same)
