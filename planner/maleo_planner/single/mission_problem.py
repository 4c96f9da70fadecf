"""Planning problem of one mission: requirements, model, fleet, load by other missions, and the incumbent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from maleo_api.egress import may_receive
from maleo_api.mission import Mode
from maleo_api.model import Model, size_of
from maleo_planner.cost_model.analog import add_weight_writing, find_tolerance_violation
from maleo_planner.cost_model.codec_cost import find_codec
from maleo_planner.cost_model.compatibility import NO_PEAK_CODES, Incompatibility, find_incompatibility
from maleo_planner.cost_model.load import Load
from maleo_planner.cost_model.reconfiguration import add_reconfiguration, find_sharing_conflict, shared_load
from maleo_planner.cost_model.span_cost import LinkFacts, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.transfer_costs import TransferRules
from maleo_planner.inventory.egress_reach import Reach, find_reach
from maleo_planner.inventory.fleet_index import FleetIndex, IndexCache
from maleo_planner.inventory.reservations import ReservationView
from maleo_planner.single.objective import MOVE_COST, Aim, Objective
from maleo_planner.single.rejections import MODES
from maleo_planner.types.numeric import EPSILON
from maleo_planner.types.problem import NodeFacts, Plan
from maleo_planner.types.requirements import Requirements
from maleo_planner.types.variants import RunnableVariant

PREFERRED_PARTITIONS: Final = 4
"""Maximum number of partitions of a plan, if a feasible one exists within it."""
_MAX_UNITS: Final = 64
"""Number of units up to which all unit classes are searched."""
_INCOMPATIBILITIES: Final = IndexCache[tuple[str, str, str, str, str], Incompatibility | None]("incompatibilities")
"""(model, variant, profile, power mode, unit) -> `MissionProblem.find_incompatibility`."""


@dataclass(frozen=True, eq=False)
class MissionProblem:
    """Planning problem of one mission. It is immutable: a search returns a `SearchResult`.

    Attributes:
        requirements: Requirements of the mission.
        model: Model of the mission.
        source: Input node.
        aim: What to optimise.
        index: Fleet index.
        loads: Reservations of other missions.
        incumbent: Current plan of the mission; None without one.
    """

    requirements: Requirements
    model: Model
    source: NodeFacts
    aim: Aim
    index: FleetIndex
    loads: ReservationView
    incumbent: Plan | None

    @cached_property
    def objective(self) -> Objective:
        """Return the objective of the mission under the aim."""
        return Objective(self.requirements, self.aim)

    @property
    def units(self) -> list[UnitFacts]:
        """Return all available units of the fleet."""
        return self.index.available

    @property
    def input_units(self) -> list[UnitFacts]:
        """Return the units of the input node."""
        return self.index.units_on(self.source.name)

    @cached_property
    def modes(self) -> list[Mode]:
        """Return the modes that the mission allows."""
        return [mode for mode in MODES if mode in self.requirements.mission.spec.modes]

    @property
    def move_cost(self) -> float:
        """Return the cost of a move in units of the objective; zero for aims in seconds, joules or requests/s."""
        return MOVE_COST if self.aim == "margins" else 0.0

    @property
    def incumbent_units(self) -> list[tuple[str, str]]:
        """Return (node, unit) of each partition of the incumbent."""
        return [(p.node, p.unit) for p in self.incumbent.partitions] if self.incumbent is not None else []

    @property
    def searches_all_classes(self) -> bool:
        """Return True if there are few enough unit classes to search all of them.

        Otherwise only classes one hop from the input are searched, and `shortlist_bound` bounds the others.
        """
        return sum(min(len(each.members), PREFERRED_PARTITIONS) for each in self.index.classes) <= _MAX_UNITS

    @property
    def reach(self) -> Reach:
        """Return the classes one hop from the input, with egress permissions, and bounds on further hops."""
        egress = self.requirements.mission.spec.egress
        return find_reach(self.index, self.source, egress.input, egress.features)

    # ------------------------------------------------------------------------------------------------ variants

    def runnable_variants(self) -> list[RunnableVariant]:
        """Return the runnable variants of the model that the mission allows."""
        wanted = self.requirements.mission.spec.model.variants
        return [v for v in self.index.runnable_variants(self.model) if not wanted or v.name in wanted]

    def find_variant(self, variant: str, exit_: str) -> RunnableVariant | None:
        """Return the variant with this exit; None if it does not exist or is not allowed by the mission."""
        return next((v for v in self.runnable_variants() if (v.name, v.exit) == (variant, exit_)), None)

    def keeps_accuracy_floor(self, variant: RunnableVariant) -> bool:
        """Return True if the variant by itself keeps the Hard accuracy floor."""
        return self.objective.accuracy_shortfall(self.requirements.accuracy_of(variant)) <= EPSILON

    # ------------------------------------------------------------------------------------------------ units

    def find_obstacle(self, variant: RunnableVariant, unit: UnitFacts) -> Incompatibility | None:
        """Return why the unit cannot run this variant, given the reservations of other missions; None if it can."""
        return (
            self.find_incompatibility(variant, unit)
            or find_tolerance_violation(self.requirements, variant, unit)
            or find_sharing_conflict(variant, unit, self.loads[unit.key])
        )

    def find_incompatibility(self, variant: RunnableVariant, unit: UnitFacts) -> Incompatibility | None:
        """Return why the unit cannot run this variant, regardless of reservations; equal for all members of a class."""
        known = self.index.cache(_INCOMPATIBILITIES)
        key = (self.model.key, variant.label, unit.profile, unit.power_mode, unit.unit.name)
        if key not in known:
            incompatibility = find_incompatibility(variant, unit)
            if (
                incompatibility is not None
                and incompatibility.code in NO_PEAK_CODES
                and self.index.costs(self.model, variant, unit)
            ):
                incompatibility = None  # a measurement replaces a missing peak
            known[key] = incompatibility
        return known[key]

    def costs(self, variant: RunnableVariant, unit: UnitFacts) -> SpanCosts | None:
        """Return the span costs of the variant, with weight writing and reconfiguration; None if unknown."""
        costs = self.index.costs(self.model, variant, unit)
        return costs and add_reconfiguration(
            add_weight_writing(costs, self.requirements, unit), variant, unit, self.loads[unit.key]
        )

    def load(self, variant: RunnableVariant, unit: UnitFacts) -> Load:
        """Return the load of the unit by other missions, with the reconfigurations that this variant causes."""
        return shared_load(variant, unit, self.loads[unit.key])

    def power_cap_of(self, unit: tuple[str, str]) -> float | None:
        """Return the power cap of the node of a unit in watts; None if there is none."""
        found = self.index.unit(unit)
        return found.power_cap if found is not None else None

    def memory_of(self, unit: tuple[str, str]) -> float:
        """Return the memory of a unit in bytes; infinite if unlimited or unknown."""
        found = self.index.unit(unit)
        return np.inf if found is None or found.memory is None else found.memory

    def processor(self, node: NodeFacts) -> UnitFacts | None:
        """Return the CPU unit of the node, which runs codecs; None if no profile declares one."""
        return self.index.processor(node)

    def mode_of(self, units: Sequence[UnitFacts]) -> Mode:
        """Return the mode of a plan over these units: `Local` if all are on the input node, `Remote` if none is."""
        is_local = [unit.node.name == self.source.name for unit in units]
        return "Local" if all(is_local) else "Split" if any(is_local) else "Remote"

    def group_equivalent(self, units: Iterable[UnitFacts]) -> list[list[UnitFacts]]:
        """Group units into equivalence classes, members sorted by key.

        Units on the nodes of the input and of the incumbent are equivalent only to units of the same node.
        """
        distinct_nodes = {self.source.name, *(node for node, _ in self.incumbent_units)}
        classes: dict[tuple[object, ...], list[UnitFacts]] = {}
        for unit in units:
            node_name = unit.node.name if unit.node.name in distinct_nodes else ""
            key = (node_name, *self.index.classes.key(unit), unit.available, self.loads[unit.key])
            classes.setdefault(key, []).append(unit)
        return [sorted(members, key=lambda u: u.key) for members in classes.values()]

    # ------------------------------------------------------------------------------------------------ links

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Return the Link between two nodes; None if none joins them."""
        return self.index.link(source, target)

    def reserved_share(self, origin: NodeFacts, target: NodeFacts) -> float:
        """Return the share of link time between two nodes that other missions reserve."""
        segment = self.index.segment(origin, target) if self.loads.reservations.uses_links else None
        return self.loads.reserved_share(segment) if segment is not None else 0.0

    def may_receive(self, node: NodeFacts, raw: bool) -> bool:
        """Return True if egress permits the node to receive raw input or, if not `raw`, features."""
        egress = self.requirements.mission.spec.egress
        return may_receive(egress.input if raw else egress.features, self.source, node)

    def transfer_rules(self, variant: RunnableVariant) -> TransferRules:
        """Return the rules and costs of transfers at the cuts of this variant."""
        return TransferRules(
            link=self.index.link,
            input_bytes=size_of(self.model.spec.inputs),
            output_bytes=size_of(self.model.spec.outputs),
            may_receive=self.may_receive,
            processor=self.index.processor,
            loss=lambda block, codec: self.requirements.accuracy_loss(
                variant, block, find_codec(variant, block, codec) if codec else None
            ),
            reserved_share=self.reserved_share,
        )
