"""All ways of one variant at once: boundaries x units, with what each step costs, as arrays in SI units.

A way is a walk: from the input's node (place D) over units d = 0..D-1 from boundary 0 to the last one. A step
(p, d, a, b) crosses from place p to unit d at boundary a and computes there up to boundary b. Boundaries are the
model's legal cuts. What is impossible costs infinitely much.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maleo_api.model import Variant
from maleo_operator.planning.cost import LinkFacts, SpanCosts, size_of
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_NEVER = np.inf
_LEAST_FREE = 1e-9


@dataclass(frozen=True, slots=True)
class Load:
    """What others hold of a unit: share of its time, seconds of one request, bytes; of its node's power: watts."""

    share: float = 0.0
    service: float = 0.0
    memory: float = 0.0
    watts: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """In objective. (node, unit) -> what one request's second there costs, a byte of its memory, using it at all, a
    joule of its node's power cap; link: a second of a wire.
    """

    time: dict[tuple[str, str], float] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    use: dict[tuple[str, str], float] = field(default_factory=dict)
    power: dict[tuple[str, str], float] = field(default_factory=dict)
    link: dict[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Amount:
    """One quantity of every step: `spans` (D, B, B) of computing, `hops` (D+1, D, B) of crossing."""

    spans: Array
    hops: Array


@dataclass(frozen=True, slots=True)
class Lattice:
    """`ends`: boundary -> last block done, -1 before the first.

    mean, tail: seconds, tail at the objective's percentile; energy: joules, infinite where it is unknown; busy: seconds
    that a stage is taken by one request, the reciprocal of the rate it sustains.
    """

    units: tuple[UnitFacts, ...]
    ends: tuple[int, ...]
    mean: Amount
    tail: Amount
    energy: Amount
    busy: Amount
    own: Array  # (D, B, B) seconds of computing, without waiting for others
    memory: Array  # (D, B, B) bytes
    fits: Mask  # (D, B, B) of a span into the unit's free memory
    powers: Mask  # (D, B, B) of a span into what is left of the node's power cap
    may: Mask  # (D+1, D) link, egress
    local: Mask  # (D,) units of the input's node
    powered: Mask  # (D,) units whose power is known

    @property
    def source(self) -> int:
        """The place where the data is born."""
        return len(self.units)

    @property
    def last(self) -> int:
        return len(self.ends) - 1

    def price(self, prices: Prices) -> Amount:
        """What steps cost by prices; infinite where they are impossible."""
        time, memory, use = (
            np.array([by.get(unit.key, 0.0) for unit in self.units])[:, None, None]
            for by in (prices.time, prices.memory, prices.use)
        )
        possible = np.isfinite(self.mean.spans)
        own, size = (np.where(possible, each, 0.0) for each in (self.own, self.memory))
        spans = np.where(possible, time * own + memory * size + use, _NEVER)
        return Amount(spans, np.where(np.isfinite(self.mean.hops), 0.0, _NEVER))

    def find(self, parts: Sequence[tuple[str, str, int]]) -> tuple[tuple[int, int], ...] | None:
        """The way over (node, unit, last block); None where a unit or a boundary is not here."""
        units = {unit.key: i for i, unit in enumerate(self.units)}
        ends = {last: boundary for boundary, last in enumerate(self.ends)}
        if any((node, unit) not in units or last not in ends for node, unit, last in parts):
            return None
        return tuple((units[node, unit], ends[last]) for node, unit, last in parts)

    def pieces(self, way: Sequence[tuple[int, int]]) -> list[tuple[UnitFacts, int, int]]:
        """(unit, first block, last block) of a way given as (unit, boundary that it ends at)."""
        found, begin = [], 0
        for unit, end in way:
            found.append((self.units[unit], begin, self.ends[end]))
            begin = self.ends[end] + 1
        return found


@dataclass(frozen=True, slots=True)
class Crossing:
    """What may cross between nodes, and over what.

    link: None where none joins two nodes; may_receive: (node, whether it gets the raw input) by the mission's egress;
    taken: share of the link's time that others hold.
    """

    link: Callable[[NodeFacts, NodeFacts], LinkFacts | None]
    input_bytes: float
    answer_bytes: float
    may_receive: Callable[[NodeFacts, bool], bool]
    taken: Callable[[NodeFacts, NodeFacts], float]


def build(
    variant: Variant,
    units: Sequence[UnitFacts],
    costs: Sequence[SpanCosts],
    loads: Sequence[Load],
    crossing: Crossing,
    *,
    source: NodeFacts,
    z: float,
    rate: float,
) -> Lattice:
    """units, costs and loads in the same order; z: of the latency's percentile; rate: requests/s."""
    ends = boundaries(variant)
    sizes = crossing_bytes(variant, ends, crossing.input_bytes)
    local = np.array([unit.node.name == source.name for unit in units], dtype=bool)
    may = _may(units, crossing, source)
    hops = [np.where(may[:, :, None], hop, _NEVER) for hop in _hops(units, crossing, source, sizes, z)]
    spans = [spans_at(cost, ends) for cost in costs]
    own, sigma, joules, memory = (np.stack([s[i] for s in spans]) for i in range(4))
    waits = np.array([waiting(load) for load in loads])[:, None, None]
    free = np.array([max(1 - load.share, _LEAST_FREE) for load in loads])[:, None, None]
    room = np.array([_room(unit, load) for unit, load in zip(units, loads, strict=True)])[:, None, None]
    fits = memory <= room
    allowed = np.array([allowance(unit, load, rate) for unit, load in zip(units, loads, strict=True)])[:, None, None]
    powers = np.isinf(allowed) | (joules <= allowed)
    possible = fits & powers & np.isfinite(own + waits)

    def amount(each: Array, hop: Array) -> Amount:
        return Amount(np.where(possible, each, _NEVER), hop)

    return Lattice(
        units=tuple(units),
        ends=ends,
        mean=amount(own + waits, hops[0]),
        tail=amount(own + waits + z * (sigma + waits), hops[1]),
        energy=amount(np.where(np.isnan(joules), _NEVER, joules), hops[2]),
        busy=amount(own / free, hops[3]),
        own=own,
        memory=memory,
        fits=fits,
        powers=powers,
        may=may,
        local=local,
        powered=np.array([not np.isnan(cost.energy[0, 0]) for cost in costs], dtype=bool),
    )


def boundaries(variant: Variant) -> tuple[int, ...]:
    """Boundary -> the last block done: -1 before the first, then the legal cuts, then the last block."""
    cuts = [i for i, block in enumerate(variant.blocks[:-1]) if block.cut is not None]
    return (-1, *(cuts if variant.cutting == "Graph" else ()), len(variant.blocks) - 1)


def crossing_bytes(variant: Variant, ends: Sequence[int], input_bytes: float) -> Array:
    """(B,) of what crosses a boundary on its way; nothing after the last."""
    cuts = [variant.blocks[end].cut for end in ends[1:-1]]
    return np.array([input_bytes, *(size_of(cut.tensors) for cut in cuts if cut is not None), 0.0])


def spans_at(costs: SpanCosts, ends: Sequence[int]) -> tuple[Array, Array, Array, Array]:
    """mean, sigma, energy, memory as (B, B) over boundaries; inf where nothing would be computed."""
    first, last = np.array(ends) + 1, np.array(ends)
    index = np.ix_(np.minimum(first, costs.mean.shape[0] - 1), np.maximum(last, 0))
    empty = np.tril(np.ones((len(ends), len(ends)), dtype=bool))
    return (
        np.where(empty, _NEVER, costs.mean[index]),
        np.where(empty, _NEVER, costs.sigma[index]),
        np.where(empty, _NEVER, costs.energy[index]),
        np.where(empty, _NEVER, costs.memory[index]),
    )


def _hops(
    units: Sequence[UnitFacts], crossing: Crossing, source: NodeFacts, sizes: Array, z: float
) -> tuple[Array, Array, Array, Array]:
    """mean, tail, energy, busy of crossing, each (D+1, D, B); zero inside a node, inf without a link."""
    shape = (len(units) + 1, len(units), len(sizes))
    mean, tail, energy, busy = (np.zeros(shape) for _ in range(4))
    nodes = [*(unit.node for unit in units), source]
    known: dict[tuple[str, str], tuple[Array, Array, Array, Array]] = {}
    for i, origin in enumerate(nodes):
        for j, unit in enumerate(units):
            target = unit.node
            if origin.name == target.name:
                continue
            key = (origin.name, target.name)
            if key not in known:
                free = max(1 - crossing.taken(origin, target), _LEAST_FREE)
                known[key] = _hop(crossing.link(origin, target), sizes + crossing.answer_bytes, z, free)
            mean[i, j], tail[i, j], energy[i, j], busy[i, j] = known[key]
    return mean, tail, energy, busy


def _hop(link: LinkFacts | None, sizes: Array, z: float, free: float) -> tuple[Array, Array, Array, Array]:
    if link is None:
        never = np.full_like(sizes, _NEVER)
        return never, never, never, never
    wire = sizes / link.bandwidth.value
    overhead = link.time(0.0, 0.0).value
    spread = link.bandwidth.sigma / link.bandwidth.value
    return wire + overhead, wire * (1 + z * spread) + overhead, sizes * link.energy_per_byte, wire / free


def _may(units: Sequence[UnitFacts], crossing: Crossing, source: NodeFacts) -> Mask:
    """Whether a step from a place to a unit is allowed by egress and link; a unit serves once, so never from itself."""
    nodes = [*(unit.node for unit in units), source]
    may = np.array(
        [
            [
                crossing.may_receive(unit.node, i == len(units))
                and (origin.name == unit.node.name or crossing.link(origin, unit.node) is not None)
                for unit in units
            ]
            for i, origin in enumerate(nodes)
        ],
        dtype=bool,
    ).reshape(len(nodes), len(units))
    np.fill_diagonal(may[: len(units)], val=False)
    return may


def waiting(load: Load) -> float:
    """Mean seconds in the queue of a shared unit: half a request of the others, by how busy they keep it."""
    return load.share * load.service / (2 * (1 - load.share)) if load.share < 1 else _NEVER


def allowance(unit: UnitFacts, load: Load, rate: float) -> float:
    """Joules of one request that the node's power cap still allows; infinite without a cap."""
    return _NEVER if unit.cap is None or rate <= 0 else max(0.0, unit.cap - load.watts) / rate


def _room(unit: UnitFacts, load: Load) -> float:
    return _NEVER if unit.memory is None else unit.memory - load.memory
