"""Common placement heuristics as baselines; each returns the unit of every block, or None if it has no placement."""

from collections.abc import Callable, Iterator, Mapping

from maleo_api.quantities import BYTES, parse
from support.oracle.milp import Program
from support.oracle.model import Spot, Unit

Places = tuple[Spot, ...]


def all_local(program: Program) -> Places | None:
    return next(_whole(program, local=True), None)


def all_remote(program: Program) -> Places | None:
    """Place the whole model on the fastest other node."""
    return _quickest(program, list(_whole(program, local=False)))


def one_cut(program: Program) -> Places | None:
    """Choose the fastest single cut between the input node and another node, or no cut, as Neurosurgeon does."""
    blocks = len(program.of.variant.blocks)
    here, there = _sides(program)
    cuts = [(a.spot,) * at + (b.spot,) * (blocks - at) for a in here for b in there for at in range(1, blocks)]
    return _quickest(program, [*_whole(program, local=True), *_whole(program, local=False), *cuts])


def by_memory(program: Program) -> Places | None:
    """Partition layers in proportion to memory over all nodes, as exo does: the input node first, then by memory."""
    units, count = _ring(program), len(program.of.variant.blocks)
    total, ends, sum_ = sum(unit.room for unit in units), list[int](), 0.0
    for unit in units:
        sum_ += unit.room
        ends.append(round(count * sum_ / total))
    starts = [0, *ends[:-1]]
    return tuple(u.spot for u, start, end in zip(units, starts, ends, strict=True) for _ in range(start, end))


def fewest_nodes(program: Program) -> Places | None:
    """Place the model on one node if it fits, else fill nodes in turn: the input node first, then by memory."""
    for unit in sorted(program.of.units, key=lambda u: (u.node.name != program.of.source.name, -u.room, u.spot)):
        places = (unit.spot,) * len(program.of.variant.blocks)
        if program.judge(places)[0] or _fits(program, unit):
            return places
    places, units = list[Spot](), iter(_ring(program))
    unit, left = next(units), 0.0
    left = unit.room
    for block in program.of.variant.blocks:
        size = parse(BYTES, block.parameters)
        while size + parse(BYTES, block.activations) > left:
            following = next(units, None)
            if following is None:
                return None
            unit, left = following, following.room
        left -= size
        places.append(unit.spot)
    return tuple(places)


RULES: Mapping[str, Callable[[Program], Places | None]] = {
    "all local": all_local,
    "all remote": all_remote,
    "one cut by scan": one_cut,
    "layers by memory": by_memory,
    "fewest nodes": fewest_nodes,
}


def _sides(program: Program) -> tuple[list[Unit], list[Unit]]:
    here = [unit for unit in program.of.units if unit.node.name == program.of.source.name]
    return here, [unit for unit in program.of.units if unit not in here]


def _whole(program: Program, *, local: bool) -> Iterator[Places]:
    here, there = _sides(program)
    for unit in here if local else there:
        yield (unit.spot,) * len(program.of.variant.blocks)


def _quickest(program: Program, options: list[Places]) -> Places | None:
    """Return the placement of lowest latency among those that fit in memory, whatever the mission's objectives."""
    units = {unit.spot: unit for unit in program.of.units}
    fitting = [places for places in options if all(_fits(program, units[s], places) for s in set(places))]
    return min(fitting, key=lambda places: program.figures(places)[0], default=None)


def _fits(program: Program, unit: Unit, places: Places | None = None) -> bool:
    blocks = program.of.variant.blocks
    own = [b for b, spot in zip(blocks, places or [unit.spot] * len(blocks), strict=True) if spot == unit.spot]
    return sum(parse(BYTES, b.parameters) for b in own) + max(parse(BYTES, b.activations) for b in own) <= unit.room


def _ring(program: Program) -> list[Unit]:
    return sorted(program.of.units, key=lambda u: (u.node.name != program.of.source.name, -u.room, u.spot))
