"""Fleet index of a snapshot, shared by all missions: units and classes are indexed at once, links and costs on demand.

An index that is updated incrementally equals an index that is built from scratch.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final, Generic, TypeVar

from maleo_api.device import Link, Place
from maleo_api.model import Model
from maleo_planner.cost_model.span_cost import (
    BlockArrays,
    LinkFacts,
    SpanCosts,
    cost_spans,
    declared_bandwidth,
    make_link_facts,
)
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.inventory.unit_classes import UnitClass, UnitClasses
from maleo_planner.types.problem import Estimate, NodeFacts, Snapshot
from maleo_planner.types.variants import RunnableVariant, list_runnable_variants

Location = tuple[str, str, str]
"""Properties by which Links distinguish nodes: name, site, tier.

The name is empty unless a Link or a deviating measurement names the node.
"""
LinkSegment = tuple[str, str, str]
"""Link capacity that missions share: the Link, and the two sites or nodes that it joins."""
_LinkEnd = tuple[str, str]
_MeasurementGroup = tuple[str, str, str, bool]
"""Link, the sites or named nodes that it joins in the direction of the data, and whether that is its first direction.

The last is always True for a Link with the same bandwidth in both directions.
"""
_MIN_PAIRS: Final = 3
"""Minimum number of measured pairs within a site for their median to count for the site."""
_DEVIATION: Final = 0.25
"""Relative deviation from the expected bandwidth beyond which a measured pair keeps its own value."""
_MAX_COSTS: Final = 20_000
_MAX_SEGMENTS: Final = 100_000
_SPECIFICITY = {"node": 3, "site": 2, "tier": 1}


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class IndexCache(Generic[_Key, _Value]):
    """Declaration of a cache of the index, by the module that owns its contents.

    Attributes:
        name: For debugging.
        depends_on_classes: Whether the contents depend on the set of unit classes, in addition to costs and links.
    """

    name: str
    depends_on_classes: bool = False


_RUNNABLE_VARIANTS: Final = IndexCache[str, list[RunnableVariant]]("runnable variants")
"""Key of a model -> its runnable variants."""


class FleetIndex:
    """Units, unit classes, links and costs of a snapshot, independent of its current plans.

    Other modules keep derived values in caches of the index (`cache`). An update clears the caches that it may affect.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._caches: dict[IndexCache[Any, Any], dict[Any, Any]] = {}
        self._snapshot = snapshot
        self._blocks: dict[tuple[str, str], BlockArrays] = {}
        self._costs: dict[tuple[object, ...], SpanCosts | None] = {}
        self._corrections = _list_corrections(snapshot)
        self._index_links(snapshot)
        self._devices: dict[str, set[str]] = {}  # node -> Devices
        self._node_of: dict[str, str] = {}
        self._map_devices(snapshot.devices)
        self._units: dict[str, list[UnitFacts]] = {}
        for unit in list_units(snapshot):
            self._units.setdefault(unit.node.name, []).append(unit)
        self.classes = UnitClasses(self._all_units(), self._discriminate)

    def update(self, snapshot: Snapshot, nodes: Collection[str] | None = None) -> Collection[str] | None:
        """Update the index to this snapshot.

        Args:
            snapshot: New snapshot.
            nodes: All nodes whose Node, Device or capacity changed; requires Devices to be named as their nodes. None:
                find them by comparison.

        Returns:
            Nodes whose units were listed again; None if links changed as well.
        """
        before, self._snapshot = self._snapshot, snapshot
        observations, previous = snapshot.observations, before.observations
        if _differ(before.profiles, snapshot.profiles):
            nodes = {*self._units, *snapshot.nodes}
        elif nodes is None:
            devices = _changed(before.devices, snapshot.devices)
            nodes = _changed(before.nodes, snapshot.nodes) | self._map_devices(devices)
            nodes |= {node for node, _ in _changed(previous.capacity, observations.capacity)}
        kinds = ("profiles", "models", "model_profiles")
        changed = any(_differ(getattr(before, kind), getattr(snapshot, kind)) for kind in kinds)
        if changed or len(self._costs) > _MAX_COSTS:
            self._blocks.clear()
            self._costs.clear()
            self._caches.clear()
        named_nodes = self._named_nodes
        if _differ(previous.correction, observations.correction):
            self._corrections = _list_corrections(snapshot)
            nodes = {*nodes, *(node for _, node, _ in _changed(previous.correction, observations.correction))}
        pairs = ((before.links, snapshot.links), (previous.bandwidth, observations.bandwidth))
        measured_nodes = self._measured_nodes.intersection(nodes)
        relinked = any(_differ(old, new) for old, new in pairs) or any(
            _is_moved(before, snapshot, n) for n in measured_nodes
        )
        if relinked:
            self._index_links(snapshot)
            self._caches.clear()
        renewed = {*nodes, *(named_nodes ^ self._named_nodes)}
        self._relist_units(renewed)
        return None if relinked else renewed

    def _relist_units(self, nodes: Collection[str]) -> None:
        """List the units of these nodes again and update the classes."""
        if not nodes:
            return
        for cached in ("available", "unavailable"):
            self.__dict__.pop(cached, None)
        self._segments.clear()
        self._map_devices(nodes)
        old = [unit for node in nodes for unit in self._units.pop(node, ())]
        for unit in list_units(self._snapshot, {key for node in nodes for key in self._devices.get(node, ())}):
            self._units.setdefault(unit.node.name, []).append(unit)
        if self.classes.replace(old, [u for node in nodes for u in self._units.get(node, ())]):
            self._caches = {cache: found for cache, found in self._caches.items() if not cache.depends_on_classes}

    def _discriminate(self, unit: UnitFacts) -> object:
        """Return the part of the class key that depends on the fleet.

        - The name of the node, if a Link or a deviating measurement names it, or if the unit is reconfigured between
          models: then the models placed there matter, not only their usage.
        - The other available units of the node, because a plan may use several of them.
        - The online corrections of the unit.
        """
        node = unit.node.name
        node_name = node if node in self._named_nodes or unit.reconfiguration != 0 else ""
        others = sorted(
            _comparable_attributes(each) for each in self._units[node] if each.available and each.name != unit.name
        )
        return node_name, tuple(others), self._corrections.get((node, unit.name), ())

    def _map_devices(self, devices: Iterable[str]) -> set[str]:
        """Update the mapping of these Devices to nodes; return their former and present nodes."""
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
        """Return PriorityClass name -> value."""
        return self._snapshot.priorities

    # ------------------------------------------------------------------------------------------------ units

    @property
    def units(self) -> list[UnitFacts]:
        """Return all units, by node."""
        return list(self._all_units())

    @cached_property
    def available(self) -> list[UnitFacts]:
        """Return the units that plans can use."""
        return [unit for unit in self._all_units() if unit.available]

    @cached_property
    def unavailable(self) -> list[UnitFacts]:
        """Return the units that plans cannot use."""
        return [unit for unit in self._all_units() if not unit.available]

    def units_on(self, node: str) -> list[UnitFacts]:
        """Return the available units of the node."""
        return [unit for unit in self._units.get(node, ()) if unit.available]

    def unit(self, key: tuple[str, str]) -> UnitFacts | None:
        """Return the unit; None if it is missing or not available."""
        return next((unit for unit in self._units.get(key[0], ()) if unit.name == key[1] and unit.available), None)

    def class_of(self, key: tuple[str, str]) -> UnitClass | None:
        """Return the equivalence class of the unit; None if it is missing or not available."""
        unit = self.unit(key)
        return self.classes.class_of(unit) if unit is not None else None

    def _all_units(self) -> Iterator[UnitFacts]:
        """Yield all units by node."""
        for node in sorted(self._units):
            yield from self._units[node]

    # ------------------------------------------------------------------------------------------------ links

    def location(self, node: NodeFacts) -> Location:
        """Return the location of the node; nodes of the same location have the same links."""
        return node.name if node.name in self._named_nodes else "", node.site, str(node.tier)

    def link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Return the most specific Link between two nodes, with measured bandwidth if any; None if none matches."""
        pair = (self.location(source), self.location(target))
        if pair not in self._links:
            self._links[pair] = self._find_link(source, target)
        return self._links[pair]

    def segment(self, source: NodeFacts, target: NodeFacts) -> LinkSegment | None:
        """Return the shared capacity that a transfer between the nodes uses; None within a node and without a Link.

        A Link joins the nodes that it names, or sites with all their nodes. A Link that names a tier joins the sites of
        its nodes. Within a site a Link is a network in which each pair of nodes has a segment of its own.
        """
        pair = (source.name, target.name)
        if pair not in self._segments:
            if len(self._segments) > _MAX_SEGMENTS:
                self._segments.clear()
            self._segments[pair] = self._find_segment(source, target)
        return self._segments[pair]

    def _find_segment(self, source: NodeFacts, target: NodeFacts) -> LinkSegment | None:
        """Compute the result of `segment`."""
        link = self.link(source, target) if source.name != target.name else None
        if link is None:
            return None
        one = self._site_at_end(link.name, source) or source.name
        other = self._site_at_end(link.name, target) or target.name
        if one == other:
            one, other = source.name, target.name
        return link.name, min(one, other), max(one, other)

    def _site_at_end(self, link: str, node: NodeFacts) -> str:
        """Return the site of the node, or empty if the Link names the node itself."""
        ends = {_end(place) for place in self._snapshot.links[link].spec.between}
        return "" if ("node", node.name) in ends else node.site

    def segment_between(self, source: str, target: str) -> LinkSegment | None:
        """Return the segment between two nodes by name; None also if a node no longer exists."""
        one, other = self._snapshot.nodes.get(source), self._snapshot.nodes.get(target)
        return self.segment(one, other) if one is not None and other is not None else None

    def _index_links(self, snapshot: Snapshot) -> None:
        """Index the Links of the snapshot by their ends, and aggregate measured bandwidths."""
        self._declared: dict[tuple[_LinkEnd, _LinkEnd], list[str]] = {}  # Links by name; of equals the first counts
        for key, link in sorted(snapshot.links.items()):
            one, other = (_end(place) for place in link.spec.between)
            for ends in {(one, other), (other, one)}:
                self._declared.setdefault(ends, []).append(key)
        self._segments: dict[tuple[str, str], LinkSegment | None] = {}
        self._links: dict[tuple[Location, Location], LinkFacts | None] = {}
        self._measured, self._deviating = self._aggregate_measurements(snapshot)
        named = {place.node for link in snapshot.links.values() for place in link.spec.between if place.node}
        self._named_nodes = frozenset(named | {node for pair in self._deviating for node in pair})
        self._measured_nodes = {node for pair in snapshot.observations.bandwidth for node in pair}

    def _aggregate_measurements(
        self, snapshot: Snapshot
    ) -> tuple[dict[_MeasurementGroup, Estimate], dict[tuple[str, str], Estimate]]:
        """Return the measured capacity of each group, and the pairs of nodes that deviate from it.

        The capacity between two sites (or named nodes) is shared, so it is the lower median over all measured pairs;
        within a site only if there are `_MIN_PAIRS` pairs. A pair that differs from the median, or from the declared
        bandwidth if there is no median, by more than the fraction `_DEVIATION` keeps its own value, and its nodes are
        distinguished from all others.
        """
        groups: dict[_MeasurementGroup, list[tuple[tuple[str, str], Estimate]]] = {}
        for pair, estimate in sorted(snapshot.observations.bandwidth.items(), key=lambda row: (row[1].value, row[0])):
            if all(name in snapshot.nodes for name in pair):
                one, other = (snapshot.nodes[name] for name in pair)
                if (link := self._find_most_specific(one, other)) is not None:
                    groups.setdefault(self._measurement_group(link, one, other), []).append((pair, estimate))
        measured, deviating = dict[_MeasurementGroup, Estimate](), dict[tuple[str, str], Estimate]()
        for group, rows in groups.items():
            expected = declared_bandwidth(snapshot.links[group[0]], forward=group[3])
            if group[1] != group[2] or len(rows) >= _MIN_PAIRS:
                measured[group] = rows[(len(rows) - 1) // 2][1]
                expected = measured[group].value
            deviating |= {
                pair: estimate for pair, estimate in rows if abs(estimate.value - expected) > _DEVIATION * expected
            }
        return measured, deviating

    def _measurement_group(self, link: str, source: NodeFacts, target: NodeFacts) -> _MeasurementGroup:
        """Return the group in which measurements from source to target over this Link are aggregated."""
        declared = self._snapshot.links[link]
        forward = declared.spec.bandwidth is not None or _is_forward(declared, source, target)
        return (
            link,
            self._site_at_end(link, source) or source.name,
            self._site_at_end(link, target) or target.name,
            forward,
        )

    def _find_link(self, source: NodeFacts, target: NodeFacts) -> LinkFacts | None:
        """Compute the result of `link`."""
        key = self._find_most_specific(source, target)
        if key is None:
            return None
        link = self._snapshot.links[key]
        measured = (self._measured_bandwidth(key, source, target), self._measured_bandwidth(key, target, source))
        return make_link_facts(key, link, *measured, forward=_is_forward(link, source, target))

    def _measured_bandwidth(self, key: str, source: NodeFacts, target: NodeFacts) -> Estimate | None:
        """Return the measured bandwidth from source to target: of the pair if it deviates, else of its group."""
        group_median = self._measured.get(self._measurement_group(key, source, target))
        return self._deviating.get((source.name, target.name), group_median)

    def equal_links(self, source: NodeFacts, target: NodeFacts) -> list[str]:
        """Return the most specific Links between two nodes by name; the first is used."""
        matching = {
            (-_SPECIFICITY[one[0]] - _SPECIFICITY[other[0]], key)
            for one, other in product(_ends(source), _ends(target))
            for key in self._declared.get((one, other), ())
        }
        best = min(matching, default=(0, ""))[0]
        return sorted(key for rank, key in matching if rank == best)

    def _find_most_specific(self, source: NodeFacts, target: NodeFacts) -> str | None:
        """Return the key of the most specific Link between two nodes, the first by name of several, or None."""
        matching = [
            (-_SPECIFICITY[one[0]] - _SPECIFICITY[other[0]], keys[0])
            for one, other in product(_ends(source), _ends(target))
            if (keys := self._declared.get((one, other))) is not None
        ]
        return min(matching)[1] if matching else None

    # ------------------------------------------------------------------------------------------------ costs

    def cache(self, declared: IndexCache[_Key, _Value]) -> dict[_Key, _Value]:
        """Return the contents of a declared cache."""
        return self._caches.setdefault(declared, {})

    def runnable_variants(self, model: Model) -> list[RunnableVariant]:
        """Return the runnable variants of the model; the same objects at each call."""
        known = self.cache(_RUNNABLE_VARIANTS)
        if model.key not in known:
            known[model.key] = list_runnable_variants(model)
        return known[model.key]

    def processor(self, node: NodeFacts) -> UnitFacts | None:
        """Return the CPU unit of the node, of several the first; None if no profile declares one."""
        return next((unit for unit in self.units_on(node.name) if unit.unit.type == "CPU"), None)

    def costs(self, model: Model, variant: RunnableVariant, unit: UnitFacts) -> SpanCosts | None:
        """Return the span costs of the variant on the unit; None if its precision cannot run there.

        Units with equal profile, power mode, capacity and correction share one object.
        """
        correction = self._snapshot.observations.correction.get(
            (variant.artifacts[0].digest, unit.node.name, unit.name)
        )
        key = (model.key, variant.label, unit.profile, unit.power_mode, unit.unit.name, unit.capacity, correction)
        if key not in self._costs:
            blocks = self._block_arrays(model, variant)
            self._costs[key] = cost_spans(self._snapshot, variant, blocks, unit, correction)
        return self._costs[key]

    def _block_arrays(self, model: Model, variant: RunnableVariant) -> BlockArrays:
        """Return the blocks of the variant as arrays, cached."""
        key = (model.key, variant.label)
        if key not in self._blocks:
            self._blocks[key] = BlockArrays.from_variant(variant)
        return self._blocks[key]


def _differ(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> bool:
    """Return True if the mappings differ."""
    return before is not after and bool(_changed(before, after))


def _changed(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> set[Any]:
    """Return the keys that were added, removed or changed; identical objects are not compared."""
    if before is after:
        return set()
    found = {k for k, v in after.items() if (old := before.get(k)) is not v and old != v}
    return found | (before.keys() - after.keys())


def _is_moved(before: Snapshot, after: Snapshot, name: str) -> bool:
    """Return True if site or tier of the node changed, or the node was added or removed."""
    old, new = before.nodes.get(name), after.nodes.get(name)
    return (old and (old.site, old.tier)) != (new and (new.site, new.tier))


def _list_corrections(snapshot: Snapshot) -> dict[tuple[str, str], tuple[tuple[str, Estimate], ...]]:
    """Return (node, unit) -> (digest, factor) of each artifact with an online correction."""
    found: dict[tuple[str, str], list[tuple[str, Estimate]]] = {}
    for (digest, node, unit), estimate in sorted(snapshot.observations.correction.items(), key=lambda row: row[0]):
        found.setdefault((node, unit), []).append((digest, estimate))
    return {key: tuple(rows) for key, rows in found.items()}


def _comparable_attributes(unit: UnitFacts) -> tuple[str, str, str, float, float]:
    """Return the attributes by which the units of two nodes are compared."""
    return unit.name, unit.profile, unit.power_mode, unit.capacity, -1.0 if unit.memory is None else unit.memory


def _is_forward(link: Link, source: NodeFacts, target: NodeFacts) -> bool:
    """Return True if source to target is the direction from the first to the second end of the Link."""
    first, second = (_end(place) for place in link.spec.between)
    return first in _ends(source) and second in _ends(target)


def _ends(node: NodeFacts) -> tuple[_LinkEnd, _LinkEnd, _LinkEnd]:
    """Return the ends by which a Link can match the node."""
    return ("node", node.name), ("site", node.site), ("tier", node.tier)


def _end(place: Place) -> _LinkEnd:
    """Return an end of a Link."""
    if place.node is not None:
        return "node", place.node
    return ("site", place.site) if place.site is not None else ("tier", str(place.tier))
