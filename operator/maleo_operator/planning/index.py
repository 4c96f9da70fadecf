"""What follows from a snapshot for all missions alike, made when it is first asked for: units, links, costs."""

from itertools import product

from maleo_api.device import Place
from maleo_api.model import Model
from maleo_operator.planning.classes import Classes
from maleo_operator.planning.cost import LinkFacts, Shape, SpanCosts, cost_spans, describe_link
from maleo_operator.planning.edition import Edition, list_editions
from maleo_operator.planning.problem import NodeFacts, Snapshot
from maleo_operator.planning.units import UnitFacts, list_units

_Spot = tuple[str, str]
_RANK = {"node": 3, "site": 2, "tier": 1}


class Index:
    """Belongs to one state of devices, links, models and observations; who holds what may differ."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.units = list_units(snapshot)
        self._snapshot = snapshot
        self.classes = Classes((unit for unit in self.units if unit.available), _named(snapshot))
        self._declared: dict[tuple[_Spot, _Spot], str] = {}
        for key, link in sorted(snapshot.links.items(), reverse=True):
            one, other = (_spot(place) for place in link.spec.between)
            self._declared[one, other] = self._declared[other, one] = key  # of equals the first by name stays
        self._links: dict[tuple[str, str], LinkFacts | None] = {}
        self._shapes: dict[tuple[str, str], Shape] = {}
        self._costs: dict[tuple[object, ...], SpanCosts | None] = {}
        self._editions: dict[str, list[Edition]] = {}
        processors = [unit for unit in self.units if unit.unit.type == "CPU" and unit.available]
        self._processors = {unit.node.name: unit for unit in reversed(processors)}

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """The most specific Link between two nodes, its bandwidth as measured where slots have measured it."""
        pair = (source.name, target.name)
        if pair not in self._links:
            self._links[pair] = self._find_link(source, target)
        return self._links[pair]

    def editions(self, model: Model) -> list[Edition]:
        """The same objects at every call."""
        if model.key not in self._editions:
            self._editions[model.key] = list_editions(model)
        return self._editions[model.key]

    def processor(self, node: NodeFacts) -> UnitFacts | None:
        """The node's own, of several the first by name; None where no profile knows it."""
        return self._processors.get(node.name)

    def costs(self, model: Model, variant: Edition, unit: UnitFacts) -> SpanCosts | None:
        """The same object for all units that are alike; None when the variant's precision cannot run there."""
        correction = self._snapshot.observations.correction.get(
            (variant.artifacts[0].digest, unit.node.name, unit.name)
        )
        key = (model.key, variant.label, unit.profile, unit.power_mode, unit.unit.name, unit.capacity, correction)
        if key not in self._costs:
            shape = self._shape(model, variant)
            self._costs[key] = cost_spans(self._snapshot, variant, shape, unit, correction)
        return self._costs[key]

    def _shape(self, model: Model, variant: Edition) -> Shape:
        key = (model.key, variant.label)
        if key not in self._shapes:
            self._shapes[key] = Shape.of(variant)
        return self._shapes[key]

    def _find_link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        matching = [
            (-_RANK[one[0]] - _RANK[other[0]], key)
            for one, other in product(_spots(source), _spots(target))
            if (key := self._declared.get((one, other))) is not None
        ]
        if not matching:
            return None
        _, key = min(matching)
        observed = self._snapshot.observations.bandwidth.get((source.name, target.name))
        return describe_link(key, self._snapshot.links[key], observed)


def _named(snapshot: Snapshot) -> frozenset[str]:
    """Nodes that a link or an observation speaks of by name: no other is like them."""
    named = {place.node for link in snapshot.links.values() for place in link.spec.between if place.node}
    named |= {node for pair in snapshot.observations.bandwidth for node in pair}
    return frozenset(named | {node for _, node, _ in snapshot.observations.correction})


def _spots(node: NodeFacts) -> tuple[_Spot, _Spot, _Spot]:
    return ("node", node.name), ("site", node.site), ("tier", node.tier)


def _spot(place: Place) -> _Spot:
    if place.node is not None:
        return "node", place.node
    return ("site", place.site) if place.site is not None else ("tier", str(place.tier))
