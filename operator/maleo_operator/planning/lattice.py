"""All ways of one variant at once: boundaries x places, with what each step costs, as arrays in SI units.

A place is a unit, and the codec in which its input arrives: one for each that the variant's cuts offer. A way is a
walk: from the input's node (place D) over places d = 0..D-1 from boundary 0 to the last one. A step (p, d, a, b)
crosses from place p to place d at boundary a and computes there up to boundary b. Boundaries are the model's legal
cuts. What is impossible costs infinitely much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from maleo_api.model import Variant
from maleo_operator.planning.coding import list_codecs
from maleo_operator.planning.cost import SpanCosts
from maleo_operator.planning.crossing import Crossing, Hops, find_allowed
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_NEVER = np.inf


@dataclass(frozen=True, slots=True)
class Load:
    """What others hold of a unit: share of its time, mean seconds of one of their requests, bytes.

    artifacts: digests of what they run there; rate: their requests/s that pay no reconfiguration yet; slack: seconds by
    which the tightest of their Hard latency limits is kept.
    """

    share: float = 0.0
    service: float = 0.0
    memory: float = 0.0
    artifacts: frozenset[str] = frozenset()
    rate: float = 0.0
    slack: float = np.inf


@dataclass(frozen=True, slots=True)
class Prices:
    """(node, unit) -> what one request's second there costs, a byte of its memory, using it at all; in objective."""

    time: Mapping[tuple[str, str], float] = field(default_factory=dict)
    memory: Mapping[tuple[str, str], float] = field(default_factory=dict)
    use: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Amount:
    """One quantity of every step: `spans` (D, B, B) of computing, `hops` (D+1, D, B) of crossing."""

    spans: Array
    hops: Array


@dataclass(frozen=True, slots=True)
class Lattice:
    """`ends`: boundary -> last block done, -1 before the first.

    mean, tail: seconds, tail at the objective's percentile; energy: joules, infinite where it is unknown; busy: seconds
    that a stage is taken by one request, the reciprocal of the rate it sustains; loss: share of accuracy.
    """

    units: tuple[UnitFacts, ...]  # of each place
    codecs: tuple[str, ...]  # of each place; empty: as the cut's own tensors
    same: Mask  # (D, D) places of one unit
    ends: tuple[int, ...]
    mean: Amount
    tail: Amount
    energy: Amount
    busy: Amount
    loss: Amount
    own: Array  # (D, B, B) seconds of computing, without waiting for others
    memory: Array  # (D, B, B) bytes
    fits: Mask  # (D, B, B) of a span into the unit's free memory
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

    def find(self, parts: Sequence[tuple[str, str, int, str]]) -> tuple[tuple[int, int], ...] | None:
        """The way over (node, unit, last block, codec); None where a place or a boundary is not here."""
        places = {(*unit.key, codec): i for i, (unit, codec) in enumerate(zip(self.units, self.codecs, strict=True))}
        ends = {last: boundary for boundary, last in enumerate(self.ends)}
        if any((node, unit, codec) not in places or last not in ends for node, unit, last, codec in parts):
            return None
        return tuple((places[node, unit, codec], ends[last]) for node, unit, last, codec in parts)

    def pieces(self, way: Sequence[tuple[int, int]]) -> list[tuple[UnitFacts, int, int, str]]:
        """(unit, first block, last block, codec) of a way given as (place, boundary that it ends at)."""
        found, begin = [], 0
        for place, end in way:
            found.append((self.units[place], begin, self.ends[end], self.codecs[place]))
            begin = self.ends[end] + 1
        return found


def build(
    variant: Variant,
    units: Sequence[UnitFacts],
    costs: Sequence[SpanCosts],
    loads: Sequence[Load],
    crossing: Crossing,
    *,
    source: NodeFacts,
    z: float,
) -> Lattice:
    """units, costs and loads in the same order; z: of the latency's percentile."""
    ends = find_ends(variant)
    places = list(product(range(len(units)), ["", *(list_codecs(variant) if len(ends) > 2 else [])]))  # noqa: PLR2004 - both ends
    codecs = [codec for _, codec in places]
    units, costs, loads = [units[i] for i, _ in places], [costs[i] for i, _ in places], [loads[i] for i, _ in places]
    local = np.array([unit.node.name == source.name for unit in units], dtype=bool)
    may = find_allowed(units, crossing, source)
    never = ~may[:, :, None]
    hops = [np.where(never, np.inf, hop) for hop in Hops(variant, ends, crossing, z).table(units, codecs, source)]
    spans = [_spans(cost, ends) for cost in costs]
    own, sigma, joules, memory = (np.stack([s[i] for s in spans]) for i in range(4))
    waits = np.array([waiting(load) for load in loads])[:, None, None]
    free = np.array([max(1 - load.share, 1e-9) for load in loads])[:, None, None]
    space = np.array([room(unit, load) for unit, load in zip(units, loads, strict=True)])[:, None, None]
    fits = memory <= space
    possible = fits & np.isfinite(own + waits)

    def amount(each: Array, hop: Array) -> Amount:
        return Amount(np.where(possible, each, _NEVER), hop)

    return Lattice(
        units=tuple(units),
        codecs=tuple(codecs),
        same=np.array([[one.key == other.key for one in units] for other in units], dtype=bool),
        ends=ends,
        mean=amount(own + waits, hops[0]),
        tail=amount(own + waits + z * (sigma + waits), hops[1]),
        energy=amount(np.where(np.isnan(joules), _NEVER, joules), hops[2]),
        busy=amount(own / free, hops[3]),
        loss=amount(np.zeros_like(own), hops[4]),
        own=own,
        memory=memory,
        fits=fits,
        may=may,
        local=local,
        powered=np.array([not np.isnan(cost.energy[0, 0]) for cost in costs], dtype=bool),
    )


def find_ends(variant: Variant) -> tuple[int, ...]:
    """Boundary -> last block done: legal cuts, and both ends."""
    legal = [i for i, block in enumerate(variant.blocks[:-1]) if block.cut is not None]
    return (-1, *(legal if variant.cutting == "Graph" else []), len(variant.blocks) - 1)


def _spans(costs: SpanCosts, ends: Sequence[int]) -> tuple[Array, Array, Array, Array]:
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


def waiting(load: Load) -> float:
    """Mean seconds in the queue of a shared unit: half a request of the others, by how busy they keep it."""
    return load.share * load.service / (2 * (1 - load.share)) if load.share < 1 else _NEVER


def room(unit: UnitFacts, load: Load) -> float:
    """Bytes that are free; infinite where the memory is not limited as far as known."""
    return _NEVER if unit.memory is None else unit.memory - load.memory
