"""What it costs to cross from one place to another at each boundary: transfer, codec, and what egress forbids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_api.model import Variant
from maleo_operator.planning.coding import effort, find_codec
from maleo_operator.planning.cost import LinkFacts, size_of
from maleo_operator.planning.problem import NodeFacts
from maleo_operator.planning.units import UnitFacts

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_FIGURES: Final = 5
"""mean and tail seconds, joules, seconds of the slowest stage of it, share of accuracy lost."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """What may cross between nodes, and over what.

    link: None where none joins two nodes; may_receive: (node, whether it gets the raw input) by the mission's egress;
    processor: the node's own, None where no profile knows it; loss: share of accuracy that a codec costs after a block.
    """

    link: Callable[[NodeFacts, NodeFacts], LinkFacts | None]
    input_bytes: float
    answer_bytes: float
    may_receive: Callable[[NodeFacts, bool], bool]
    processor: Callable[[NodeFacts], UnitFacts | None]
    loss: Callable[[int, str], float]


class Hops:
    """The crossings of one variant. `ends`: boundary -> last block done."""

    def __init__(self, variant: Variant, ends: Sequence[int], crossing: Crossing, z: float) -> None:
        self._variant = variant
        self._ends = ends
        self._crossing = crossing
        self._z = z
        self._plain = np.array([crossing.input_bytes, *(self._cut_size(end) for end in ends[1:])])
        self._known: dict[tuple[object, ...], Array] = {}

    def table(self, units: Sequence[UnitFacts], codecs: Sequence[str], source: NodeFacts) -> Array:
        """(figures, D+1, D, B) over places: zero inside a node, inf without a link and where a codec is not offered."""
        found = np.zeros((_FIGURES, len(units) + 1, len(units), len(self._ends)))
        senders: list[UnitFacts | None] = [*units, None]
        for i, sender in enumerate(senders):
            origin = sender.node if sender is not None else source
            for j, (unit, codec) in enumerate(zip(units, codecs, strict=True)):
                if origin.name != unit.node.name:
                    found[:, i, j] = self._cross(origin, sender, unit, codec)
                elif codec:
                    found[:, i, j] = np.inf
        return found

    def _cross(self, origin: NodeFacts, sender: UnitFacts | None, receiver: UnitFacts, codec: str) -> Array:
        key: tuple[object, ...] = (origin.name, receiver.node.name)
        if codec:
            key = (*key, codec, sender.name if sender is not None else "", receiver.name)
        if key not in self._known:
            link = self._crossing.link(origin, receiver.node)
            if link is None or (codec and sender is None):  # what is born has crossed no cut yet
                self._known[key] = np.full((_FIGURES, len(self._ends)), np.inf)
            elif codec and sender is not None:
                self._known[key] = self._coded(link, sender, receiver, codec)
            else:
                self._known[key] = self._transfer(link, self._plain)
        return self._known[key]

    def _transfer(self, link: LinkFacts, sizes: Array) -> Array:
        """There, and the answer back."""
        both = sizes + self._crossing.answer_bytes
        wire, overhead = both / link.bandwidth.value, link.time(0.0, 0.0).value
        spread = self._z * link.bandwidth.sigma / link.bandwidth.value
        none = np.zeros_like(wire)
        return np.stack([wire + overhead, wire * (1 + spread) + overhead, both * link.energy_per_byte, wire, none])

    def _coded(self, link: LinkFacts, sender: UnitFacts, receiver: UnitFacts, name: str) -> Array:
        """Encoding, transfer and decoding are stages of their own: the units go on meanwhile."""
        found = np.full((_FIGURES, len(self._ends)), np.inf)
        for at, end in enumerate(self._ends[1:-1], start=1):
            codec, loss = find_codec(self._variant, end, name), self._crossing.loss(end, name)
            if codec is None or np.isinf(loss):
                continue
            sides = [
                effort(work, self._variant, unit, self._crossing.processor(unit.node))
                for work, unit in ((codec.encode, sender), (codec.decode, receiver))
            ]
            wire = self._transfer(link, np.array([size_of(codec.tensors)]))[:, 0]
            found[0, at] = wire[0] + sum(side.seconds for side in sides)
            found[1, at] = wire[1] + sum(side.seconds + self._z * side.sigma for side in sides)
            found[2, at] = wire[2] + sum(side.joules for side in sides)
            found[3, at] = max(wire[3], *(side.seconds for side in sides))
            found[4, at] = loss
        return found

    def _cut_size(self, end: int) -> float:
        cut = self._variant.blocks[end].cut
        return size_of(cut.tensors) if cut else 0.0


def find_allowed(units: Sequence[UnitFacts], crossing: Crossing, source: NodeFacts) -> Mask:
    """(D+1, D): what egress and links allow; a unit serves once, so never from itself."""
    nodes = [*(unit.node for unit in units), source]
    allowed = [
        [
            crossing.may_receive(unit.node, i == len(units))
            and (origin.name == unit.node.name or crossing.link(origin, unit.node) is not None)
            for unit in units
        ]
        for i, origin in enumerate(nodes)
    ]
    may = np.array(allowed, dtype=bool).reshape(len(nodes), len(units))
    may[: len(units)] &= np.array([[a.key != b.key for b in units] for a in units], dtype=bool)
    return may
