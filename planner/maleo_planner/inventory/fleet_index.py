"""Fleet index of a snapshot, the same for all missions: units and their classes eagerly, links and costs on demand.

An index is updated incrementally from what changed, and then equals an index that is built from scratch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final, Generic, TypeVar

from maleo_api.device import Link, Place
from maleo_api.model import Model
from maleo_planner.cost_model.span_cost import (
    LinkFacts,
    Shape,
    SpanCosts,
    cost_spans,
    declared_bandwidth,
    describe_link,
)
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.inventory.unit_classes import Classes, UnitClass
from maleo_planner.types.problem import Figure, NodeFacts, Snapshot
from maleo_planner.types.variants import Edition, list_editions

Spot = tuple[str, str, str]
"""What links can tell of a node: name, site, tier.

The name is empty unless a Link or a deviating measurement names the node.
"""
Wire = tuple[str, str, str]
"""A link capacity that missions share: Link, and the two sites or nodes that it joins here."""
_End = tuple[str, str]
_Joint = tuple[str, str, str, bool]
"""Link, the sites or named nodes that it joins here in the direction of the data, and whether that direction is up.

The last is always True for a Link with the same bandwidth in both directions.
"""
_FEW_PAIRS: Final = 3
"""Measured pairs within one site from which their median stands for the site."""
_APART: Final = 0.25
"""Relative distance from the expected bandwidth beyond which a measured pair counts by itself."""
_MOST_COSTS: Final = 20_000
_MOST_WIRES: Final = 100_000
_RANK = {"node": 3, "site": 2, "tier": 1}


_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False)
class IndexCache(Generic[_Key, _Found]):
    """Declaration of a cache of the index, by the one module that reads and fills it.

    by_classes: whether the contents depend on which unit classes exist, and not only on costs and links.
    """

    name: str
    by_classes: bool = False


_EDITIONS: Final = IndexCache[str, list[Edition]]("editions")
"""Key of a model -> its runnable variants."""


class FleetIndex:
    """Units, classes, links and costs of one state of devices, links, models and observations, whatever plans are held.

    Other modules keep what they derive from it in caches of the index (`cache`), which are cleared by a change that may
    affect their contents.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._caches: dict[IndexCache[Any, Any], dict[Any, Any]] = {}
        self._snapshot = snapshot
        self._shapes: dict[tuple[str, str], Shape] = {}
        self._costs: dict[tuple[object, ...], SpanCosts | None] = {}
        self._corrections = _list_corrections(snapshot)
        self._learn_links(snapshot)
        self._devices: dict[str, set[str]] = {}  # node -> its Devices
        self._node_of: dict[str, str] = {}
        self._follow(snapshot.devices)
        self._on: dict[str, list[UnitFacts]] = {}
        for unit in list_units(snapshot):
            self._on.setdefault(unit.node.name, []).append(unit)
        self.classes = Classes(self._all(), self._set_apart)

    def update(self, snapshot: Snapshot, nodes: Collection[str] | None = None) -> Collection[str] | None:
        """Switch to this snapshot; return the nodes whose units were listed again, None if the links changed as well.

        nodes: all nodes whose Node, Device or capacity changed, valid only where each Device is named as its node;
        None: find them by comparison.
        """
        before, self._snapshot = self._snapshot, snapshot
        seen, were = snapshot.observations, before.observations
        if _differ(before.profiles, snapshot.profiles):
            nodes = {*self._on, *snapshot.nodes}
        elif nodes is None:
            devices = _changed(before.devices, snapshot.devices)
            nodes = _changed(before.nodes, snapshot.nodes) | self._follow(devices)
            nodes |= {node for node, _ in _changed(were.capacity, seen.capacity)}
        kinds = ("profiles", "models", "model_profiles")
        changed = any(_differ(getattr(before, kind), getattr(snapshot, kind)) for kind in kinds)
        if changed or len(self._costs) > _MOST_COSTS:
            self._shapes.clear()
            self._costs.clear()
            self._caches.clear()
        named = self._named
        if _differ(were.correction, seen.correction):
            self._corrections = _list_corrections(snapshot)
            nodes = {*nodes, *(node for _, node, _ in _changed(were.correction, seen.correction))}
        pairs = ((before.links, snapshot.links), (were.bandwidth, seen.bandwidth))
        at_ends = self._at_ends.intersection(nodes)
        relinked = any(_differ(old, new) for old, new in pairs) or any(_is_moved(before, snapshot, n) for n in at_ends)
        if relinked:
            self._learn_links(snapshot)
            self._caches.clear()
        renewed = {*nodes, *(named ^ self._named)}
        self._renew(renewed)
        return None if relinked else renewed

    def _renew(self, nodes: Collection[str]) -> None:
        """List the units of these nodes again and update the classes."""
        if not nodes:
            return
        for cached in ("available", "unavailable"):
            self.__dict__.pop(cached, None)
        self._wires.clear()
        self._follow(nodes)
        old = [unit for node in nodes for unit in self._on.pop(node, ())]
        for unit in list_units(self._snapshot, {key for node in nodes for key in self._devices.get(node, ())}):
            self._on.setdefault(unit.node.name, []).append(unit)
        if self.classes.replace(old, [u for node in nodes for u in self._on.get(node, ())]):
            self._caches = {cache: found for cache, found in self._caches.items() if not cache.by_classes}

    def _set_apart(self, unit: UnitFacts) -> object:
        """Return what distinguishes the unit from others of equal figures, as part of its class key.

        - its node's name, where a Link or a deviating measurement names the node, or where the unit is reconfigured
          between models: then it matters which models are placed there, not only how much they use;
        - the other available units of its node, because one plan may use several of them;
        - its online corrections.
        """
        node = unit.node.name
        own = node if node in self._named or unit.reconfiguration != 0 else ""
        others = sorted(_look(each) for each in self._on[node] if each.available and each.name != unit.name)
        return own, tuple(others), self._corrections.get((node, unit.name), ())

    def _follow(self, devices: Iterable[str]) -> set[str]:
        """Update the mapping of these Devices to nodes; return the nodes that they belonged to or belong to now."""
        found = set()
        for key in devices:
            node = self._node_of.pop(key, None)
            if node is not None:
                self._devices[node].discard(key)
                found.add(node)
            device = self._snapshot.devices.get(key)
            if device is not None:
                self._node_of[key] = device.spec.node_name
                self._devices.setdefault(device.spec.node_name, set()).add(key)
                found.add(device.spec.node_name)
        return found

    @property
    def priorities(self) -> Mapping[str, int]:
        """PriorityClass name -> value."""
        return self._snapshot.priorities

    # ------------------------------------------------------------------------------------------------ units

    @property
    def units(self) -> list[UnitFacts]:
        """All units, by node."""
        return list(self._all())

    @cached_property
    def available(self) -> list[UnitFacts]:
        """Units that can be planned with."""
        return [unit for unit in self._all() if unit.available]

    @cached_property
    def unavailable(self) -> list[UnitFacts]:
        """Units that cannot be planned with."""
        return [unit for unit in self._all() if not unit.available]

    def on(self, node: str) -> list[UnitFacts]:
        """Return the available units of the node."""
        return [unit for unit in self._on.get(node, ()) if unit.available]

    def unit(self, key: tuple[str, str]) -> UnitFacts | None:
        """Return the unit, None where it is missing or not available."""
        return next((unit for unit in self._on.get(key[0], ()) if unit.name == key[1] and unit.available), None)

    def class_of(self, key: tuple[str, str]) -> UnitClass | None:
        """Return the equivalence class of the unit, None where it is missing or not available."""
        unit = self.unit(key)
        return self.classes.of(unit) if unit is not None else None

    def _all(self) -> Iterator[UnitFacts]:
        """Yield all units by node."""
        for node in sorted(self._on):
            yield from self._on[node]

    # ------------------------------------------------------------------------------------------------ links

    def spot(self, node: NodeFacts) -> Spot:
        """Return what links can tell of the node: nodes of the same spot have the same links."""
        return node.name if node.name in self._named else "", node.site, str(node.tier)

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Return the most specific Link between two nodes, with measured bandwidth if any; None where none matches."""
        pair = (self.spot(source), self.spot(target))
        if pair not in self._links:
            self._links[pair] = self._find_link(source, target)
        return self._links[pair]

    def wire(self, source: NodeFacts, target: NodeFacts) -> Wire | None:
        """Return the shared capacity that a transfer between the nodes uses; None within a node and without a link.

        A Link joins what it names: nodes, or sites with all their nodes. A Link that names a tier joins the sites of
        its nodes. Within one site a Link is a network in which each pair of nodes has a wire of its own.
        """
        pair = (source.name, target.name)
        if pair not in self._wires:
            if len(self._wires) > _MOST_WIRES:
                self._wires.clear()
            self._wires[pair] = self._find_wire(source, target)
        return self._wires[pair]

    def _find_wire(self, source: NodeFacts, target: NodeFacts) -> Wire | None:
        """Return the uncached result of `wire`."""
        link = self.link(source, target) if source.name != target.name else None
        if link is None:
            return None
        one, other = self._joins(link.name, source) or source.name, self._joins(link.name, target) or target.name
        if one == other:
            one, other = source.name, target.name
        return link.name, min(one, other), max(one, other)

    def _joins(self, link: str, node: NodeFacts) -> str:
        """Return which end of the Link the node is on: empty where the Link names the node itself, else its site."""
        named = {_end(place) for place in self._snapshot.links[link].spec.between}
        return "" if ("node", node.name) in named else node.site

    def wire_between(self, source: str, target: str) -> Wire | None:
        """Return the wire between two nodes by name; None also where a node no longer exists."""
        one, other = self._snapshot.nodes.get(source), self._snapshot.nodes.get(target)
        return self.wire(one, other) if one is not None and other is not None else None

    def _learn_links(self, snapshot: Snapshot) -> None:
        """FleetIndex the Links of the snapshot by their ends, and evaluate measured bandwidths."""
        self._declared: dict[tuple[_End, _End], list[str]] = {}  # Links by name: the first wins among equals
        for key, link in sorted(snapshot.links.items()):
            one, other = (_end(place) for place in link.spec.between)
            for ends in {(one, other), (other, one)}:
                self._declared.setdefault(ends, []).append(key)
        self._wires: dict[tuple[str, str], Wire | None] = {}
        self._links: dict[tuple[Spot, Spot], LinkFacts | None] = {}
        self._measured, self._apart = self._judge_measurements(snapshot)
        named = {place.node for link in snapshot.links.values() for place in link.spec.between if place.node}
        self._named = frozenset(named | {node for pair in self._apart for node in pair})
        self._at_ends = {node for pair in snapshot.observations.bandwidth for node in pair}

    def _judge_measurements(self, snapshot: Snapshot) -> tuple[dict[_Joint, Figure], dict[tuple[str, str], Figure]]:
        """Return the measured capacity of each joint, and the pairs that deviate from it.

        The capacity between two sites (or named nodes) is shared, so it is the lower median over all measured pairs;
        within one site only from `_FEW_PAIRS` pairs on. A pair that differs from it, or from the declared bandwidth
        where there is no median, by more than the fraction `_APART` keeps its own figure, and its nodes are
        distinguished from all others.
        """
        groups: dict[_Joint, list[tuple[tuple[str, str], Figure]]] = {}
        for pair, figure in sorted(snapshot.observations.bandwidth.items(), key=lambda row: (row[1].value, row[0])):
            if all(name in snapshot.nodes for name in pair):
                one, other = (snapshot.nodes[name] for name in pair)
                if (link := self._find_declared(one, other)) is not None:
                    groups.setdefault(self._joint(link, one, other), []).append((pair, figure))
        measured, apart = dict[_Joint, Figure](), dict[tuple[str, str], Figure]()
        for joint, rows in groups.items():
            usual = declared_bandwidth(snapshot.links[joint[0]], up=joint[3])
            if joint[1] != joint[2] or len(rows) >= _FEW_PAIRS:
                measured[joint] = rows[(len(rows) - 1) // 2][1]
                usual = measured[joint].value
            apart |= {pair: figure for pair, figure in rows if abs(figure.value - usual) > _APART * usual}
        return measured, apart

    def _joint(self, link: str, source: NodeFacts, target: NodeFacts) -> _Joint:
        """Return the key under which measurements from source to target over this Link are aggregated."""
        declared = self._snapshot.links[link]
        up = declared.spec.bandwidth is not None or _is_up(declared, source, target)
        return link, self._joins(link, source) or source.name, self._joins(link, target) or target.name, up

    def _find_link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Return the uncached result of `link`."""
        key = self._find_declared(source, target)
        if key is None:
            return None
        link, seen = self._snapshot.links[key], (self._seen(key, source, target), self._seen(key, target, source))
        return describe_link(key, link, *seen, up=_is_up(link, source, target))

    def _seen(self, key: str, source: NodeFacts, target: NodeFacts) -> Figure | None:
        """Return the measured bandwidth from source to target: of this pair where it deviates, else of its joint."""
        usual = self._measured.get(self._joint(key, source, target))
        return self._apart.get((source.name, target.name), usual)

    def equal_links(self, source: NodeFacts, target: NodeFacts) -> list[str]:
        """Return the most specific Links between two nodes by name, of which the first is used."""
        matching = {
            (-_RANK[one[0]] - _RANK[other[0]], key)
            for one, other in product(_ends(source), _ends(target))
            for key in self._declared.get((one, other), ())
        }
        least = min(matching, default=(0, ""))[0]
        return sorted(key for rank, key in matching if rank == least)

    def _find_declared(self, source: NodeFacts, target: NodeFacts) -> str | None:
        """Return the key of the most specific Link between two nodes, the first by name of several, or None."""
        matching = [
            (-_RANK[one[0]] - _RANK[other[0]], keys[0])
            for one, other in product(_ends(source), _ends(target))
            if (keys := self._declared.get((one, other))) is not None
        ]
        return min(matching)[1] if matching else None

    # ------------------------------------------------------------------------------------------------ costs

    def cache(self, declared: IndexCache[_Key, _Found]) -> dict[_Key, _Found]:
        """Return the contents of a declared cache."""
        return self._caches.setdefault(declared, {})

    def editions(self, model: Model) -> list[Edition]:
        """Return the model's runnable variants, the same objects at each call."""
        known = self.cache(_EDITIONS)
        if model.key not in known:
            known[model.key] = list_editions(model)
        return known[model.key]

    def processor(self, node: NodeFacts) -> UnitFacts | None:
        """Return the CPU unit of the node, the first one listed; None where no profile declares one."""
        return next((unit for unit in self.on(node.name) if unit.unit.type == "CPU"), None)

    def costs(self, model: Model, variant: Edition, unit: UnitFacts) -> SpanCosts | None:
        """Return the span costs of the variant on the unit, None where its precision cannot run there.

        Units with equal profile, power mode, capacity and correction share one object.
        """
        correction = self._snapshot.observations.correction.get(
            (variant.artifacts[0].digest, unit.node.name, unit.name)
        )
        key = (model.key, variant.label, unit.profile, unit.power_mode, unit.unit.name, unit.capacity, correction)
        if key not in self._costs:
            shape = self._shape(model, variant)
            self._costs[key] = cost_spans(self._snapshot, variant, shape, unit, correction)
        return self._costs[key]

    def _shape(self, model: Model, variant: Edition) -> Shape:
        """Return the variant's blocks as arrays, cached."""
        key = (model.key, variant.label)
        if key not in self._shapes:
            self._shapes[key] = Shape.of(variant)
        return self._shapes[key]


def _differ(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> bool:
    """Return True if the mappings differ."""
    return before is not after and bool(_changed(before, after))


def _changed(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> set[Any]:
    """Return the keys that were added, removed or given another value; identical objects are not compared."""
    if before is after:
        return set()
    found = {k for k, v in after.items() if (old := before.get(k)) is not v and old != v}
    return found | (before.keys() - after.keys())


def _is_moved(before: Snapshot, after: Snapshot, name: str) -> bool:
    """Return True if the node's site or tier changed, or the node appeared or vanished."""
    was, now = before.nodes.get(name), after.nodes.get(name)
    return (was and (was.site, was.tier)) != (now and (now.site, now.tier))


def _list_corrections(snapshot: Snapshot) -> dict[tuple[str, str], tuple[tuple[str, Figure], ...]]:
    """Return (node, unit) -> (digest, factor) of each artifact with an online correction there."""
    found: dict[tuple[str, str], list[tuple[str, Figure]]] = {}
    for (digest, node, unit), figure in sorted(snapshot.observations.correction.items(), key=lambda row: row[0]):
        found.setdefault((node, unit), []).append((digest, figure))
    return {key: tuple(rows) for key, rows in found.items()}


def _look(unit: UnitFacts) -> tuple[str, str, str, float, float]:
    """Return the attributes of a unit by which units of other nodes are compared."""
    return unit.name, unit.profile, unit.power_mode, unit.capacity, -1.0 if unit.memory is None else unit.memory


def _is_up(link: Link, source: NodeFacts, target: NodeFacts) -> bool:
    """Return True if data from source to target goes from the Link's first end to its second."""
    first, second = (_end(place) for place in link.spec.between)
    return first in _ends(source) and second in _ends(target)


def _ends(node: NodeFacts) -> tuple[_End, _End, _End]:
    """Return the ends by which a Link can match the node."""
    return ("node", node.name), ("site", node.site), ("tier", node.tier)


def _end(place: Place) -> _End:
    """Return the end that the Link names."""
    if place.node is not None:
        return "node", place.node
    return ("site", place.site) if place.site is not None else ("tier", str(place.tier))
