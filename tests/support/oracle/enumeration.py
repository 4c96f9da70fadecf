"""Enumeration of all paths of one mission in plain Python: no solver, and no code of the planner."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, product

from maleo_api.quantities import BYTES, parse
from support.oracle import datasheet
from support.oracle.model import Crossing, Meaning, Spot, Unit

_MAX_PARTITIONS = 4
_TIE = 1e-9

Path = tuple[tuple[Spot, ...], tuple[str, ...]]
"""Unit of every block, and the codec in which the input of each arrives."""


def list_paths(of: Meaning) -> Iterator[Path]:
    """Yield the paths that the modes allow.

    Each unit occurs at most once, and a path that starts elsewhere never returns to the input node.
    """
    for places in product([unit.spot for unit in of.units], repeat=len(of.variant.blocks)):
        order = [spot for spot, _ in groupby(places)]
        here = [spot[0] == of.source.name for spot in order]
        mode = "Local" if all(here) else "Split" if any(here) else "Remote"
        returns = mode == "Split" and not here[0]
        if len(set(order)) == len(order) <= _MAX_PARTITIONS and mode in of.mission.spec.modes and not returns:
            offered = [
                ["", *(codec.name for codec in of.codecs(b - 1))] if b and places[b] != places[b - 1] else [""]
                for b in range(len(places))
            ]
            yield from ((places, forms) for forms in product(*offered))


@dataclass(slots=True)
class Figures:
    """Figures of a path. mean, sigma: seconds; joules, accuracy: None if unknown."""

    mean: float = 0.0
    sigma: float = 0.0
    joules: float | None = 0.0
    accuracy: float | None = None
    by_node: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    by_wire: dict[frozenset[str], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, mean: float, sigma: float, joules: float | None) -> None:
        self.mean, self.sigma = self.mean + mean, self.sigma + sigma
        self.joules = None if joules is None or self.joules is None else self.joules + joules


def follow(of: Meaning, path: Path) -> Figures | None:
    """Return the figures of a path; None if it breaks a structural rule or a reservation of others."""
    (places, forms), units = path, {unit.spot: (u, unit) for u, unit in enumerate(of.units)}
    found, begin, before = Figures(accuracy=of.accuracy), 0, None
    widest: float | None = 0.0
    for spot, blocks in groupby(places):
        (u, unit), last = units[spot], begin + len(list(blocks)) - 1
        crossing = _cross(of, before, unit, begin, forms[begin])
        if crossing is None or not _compute(of, found, u, unit, begin, last):
            return None
        found.add(crossing.mean, crossing.sigma, crossing.joules)
        for node, joules in crossing.sides:
            found.by_node[node].append(joules)
        if found.accuracy is not None:
            found.accuracy -= crossing.loss
        if crossing.wire is not None:
            found.by_wire[crossing.wire[0]] += crossing.wire[1]
        missed = datasheet.tolerance(unit.facts)
        widest = None if missed is None or widest is None else max(widest, missed)
        begin, before = last + 1, unit
    if found.accuracy is not None:
        found.accuracy = None if widest is None else found.accuracy - widest
    return found if _is_within(of, found) else None


def _cross(of: Meaning, sender: Unit | None, receiver: Unit, begin: int, form: str) -> Crossing | None:
    if not of.may_go(of.data(begin - 1), receiver):
        return None
    if begin and of.variant.cutting != "Graph":
        return None
    if not form:
        return of.hop(sender.node if sender else of.source, receiver.node, begin - 1)
    codec = next(each for each in of.codecs(begin - 1) if each.name == form)
    return of.coded(sender, receiver, codec) if sender else None


def _compute(of: Meaning, found: Figures, u: int, unit: Unit, first: int, last: int) -> bool:
    """Add a span; return False if the unit lacks memory or time for it, or another mission would be late."""
    (blocks, launch, spread), own = of.costs[u], of.variant.blocks[first : last + 1]
    seconds, watts = sum(blocks[first : last + 1]) + launch, datasheet.watts(unit.facts)
    sigma, joules = seconds * spread, None if watts is None else seconds * watts
    for at, *span, mean, deviation, measured in of.spans:
        if (at, *span) == (u, first, last):
            seconds, sigma = mean, deviation
            joules = measured if measured is not None else None if watts is None else seconds * watts
    if unit.reconfiguration:
        joules = None if joules is None or watts is None else joules + unit.reconfiguration * watts
    if u in of.bare and not any((at, *span) == (u, first, last) for at, *span, _, _, _ in of.spans):
        return False
    size = sum(parse(BYTES, b.parameters) for b in own)
    written = of.writing(unit)
    joules = None if joules is None or written is None else joules + written * size
    seconds += unit.reconfiguration
    found.add(seconds + unit.wait, sigma + unit.unsure, joules)
    found.by_node[unit.node.name].append(joules)
    size += max(parse(BYTES, b.activations) for b in own)
    in_time = of.rate * seconds <= (1 - unit.share) * (1 + _TIE) and seconds <= unit.max_seconds * (1 + 1e-7)
    return size <= unit.free and in_time


def _is_within(of: Meaning, found: Figures) -> bool:
    """Return True if limits that several steps share are kept: link capacity, and power caps of nodes."""
    if any(taken > 1 + _TIE for taken in found.by_wire.values()):
        return False
    for node, joules in found.by_node.items():
        allowed = of.joules(node)
        if allowed < float("inf") and (None in joules or sum(j or 0.0 for j in joules) > allowed * (1 + _TIE)):
            return False
    return True


def judge(of: Meaning, path: Path, found: Figures) -> float | None:
    """Return the objective of a path; None if it violates a Hard limit."""
    (latency, latency_hard), (energy, energy_hard), (floor, floor_hard) = of.latency, of.energy, of.floor
    by_accuracy, by_latency, by_energy = of.weights
    tail, objective, broken = found.mean + of.z * found.sigma, 0.0, False
    if latency is not None:
        objective += by_latency * max(-1.0, 1 - tail / latency) - 0.1 * (tail - found.mean) / latency
        broken |= latency_hard and tail > latency * (1 + _TIE)
    if energy is not None:
        margin = -1.0 if found.joules is None else max(-1.0, 1 - found.joules / energy)
        objective += by_energy * margin
        broken |= energy_hard and (found.joules is None or found.joules > energy * (1 + _TIE))
    if floor is not None:
        unknown = found.accuracy is None or floor == float("inf")
        margin = -1.0 if unknown else max(-1.0, ((found.accuracy or 0.0) - floor) / (1 - floor))
        objective += by_accuracy * margin
        broken |= floor_hard and (found.accuracy is None or found.accuracy < floor - _TIE)
    if of.mission.key in of.snapshot.current_plans and of.incumbent != path:
        objective -= 0.05
    return None if broken else objective
