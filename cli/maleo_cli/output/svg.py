"""SVG drawing of plans: the chain of blocks on the units that run it, what crosses each cut, and the latency budget.

Plain SVG, readable on light and dark backgrounds. Every figure is taken from the plan. Deterministic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import NormalDist
from typing import Final

from maleo_api.mission import Mission
from maleo_api.model import Model, Variant
from maleo_api.quantities import DURATION, ENERGY, RATE, RATIO, WORK, parse, show
from maleo_cli.output.text import format_bytes, format_figure, format_margin
from maleo_planner import Plan
from maleo_planner.types.variants import find_runnable_variant

_WIDTH: Final = 960
_PADDING: Final = 24
_LEFT: Final = 190  # start of the lanes; unit names are left of it
_LANE_WIDTH: Final = _WIDTH - _LEFT - _PADDING
_LANE_HEIGHT: Final = 62
_BLOCK_HEIGHT: Final = 26
_ARROW_GAP: Final = 30  # between partitions, for the arrow
_LINE_HEIGHT: Final = 19
_CHARACTER_WIDTH: Final = 6.6  # approximate width of a character
_PALETTE: Final = {  # property, colour on light, on dark; safe for colour blindness (after Okabe and Ito)
    "text": ("fill", "#1f2328", "#e6edf3"),
    ".faint": ("fill", "#59636e", "#9da7b1"),
    ".over": ("fill", "#b3261e", "#ff7b72"),
    ".cut": ("stroke", "#ffffff", "#0d1117"),
    ".paper": ("fill", "#ffffff", "#0d1117"),
    ".lane": ("fill", "#f6f8fa", "#161b22"),
    ".a": ("fill", "#0072b2", "#56b4e9"),
    ".b": ("fill", "#e69f00", "#f0b840"),
    ".c": ("fill", "#009e73", "#2fc79a"),
    ".d": ("fill", "#cc79a7", "#e29fc3"),
    ".hop": ("fill", "#8b949e", "#8b949e"),
    ".arrow": ("stroke", "#8b949e", "#8b949e"),
    ".left": ("stroke", "#8b949e", "#8b949e"),
    ".wait": ("stroke", "#8b949e", "#8b949e"),
    ".limit": ("stroke", "#b3261e", "#ff7b72"),
}
_SHAPES: Final = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
.name { font-size: 16px; font-weight: 600; } .over { font-weight: 600; }
.cut { paint-order: stroke; stroke-width: 5px; font-weight: 600; }
.arrow { fill: none; stroke-width: 1.5; } .limit { stroke-width: 2; }
.left { fill: none; stroke-dasharray: 4 3; } .wait { fill: url(#hatch); }
"""
_COLOURS: Final = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class PlanDrawing:
    """One mission and its plan. is_feasible: False if the plan is the closest infeasible one."""

    mission: Mission
    model: Model
    plan: Plan
    is_feasible: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """Step of the latency budget. seconds: at the objective's percentile. kind: CSS class of the bar."""

    seconds: float
    kind: str
    text: str


def draw(drawings: Sequence[PlanDrawing]) -> str:
    """Return one SVG document with a panel for each drawing, one below the other."""
    panels, height = [], 0.0
    for drawing in drawings:
        panel = _Panel(drawing)
        panels += [f'<g transform="translate(0 {height:g})">', *panel.draw(), "</g>"]
        height += panel.height
    names = ", ".join(drawing.mission.metadata.name for drawing in drawings)
    description = " ".join(_describe(drawing) for drawing in drawings)
    size = f'viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(f"Plans of {names}")}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        f"<style>{_SHAPES}{_colours(1)}@media (prefers-color-scheme: dark) {{\n{_colours(2)}}}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 L8 4 L0 8 z" class="hop"/></marker>',
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">',
        '<rect width="2" height="6" class="hop"/></pattern></defs>',
        _rect(0, 0, _WIDTH, height, "paper"),
    ]
    return "\n".join([*lines, *panels, "</svg>", ""])


def budget(mission: Mission, plan: Plan) -> list[_Step]:
    """Return the steps of a request in order; their seconds sum to the plan's latency at the objective's percentile."""
    latency = mission.spec.objectives.latency
    z = NormalDist().inv_cdf((latency.percentile if latency else 95) / 100)
    steps, before, crossings = [], plan.entry_node, iter(plan.transfers)
    for index, part in enumerate(plan.partitions):
        if part.node != before:
            transfer = next(crossings)
            codec = f" as {transfer.codec}" if transfer.codec else ""
            text = f"transfer {format_bytes(transfer.size)} {transfer.source} > {transfer.target}{codec}"
            steps.append(_Step(transfer.time.value + z * transfer.time.sigma, "hop", text))
        where = f"{part.node} [{part.first}..{part.last}]"
        if part.wait.value:
            steps.append(_Step(part.wait.value + z * part.wait.sigma, "wait", f"queue at {part.node} {part.unit}"))
        seconds = part.compute.value + z * part.compute.sigma
        steps.append(_Step(seconds, _COLOURS[index % len(_COLOURS)], f"compute {where}"))
        before = part.node
    return steps


def _describe(drawing: PlanDrawing) -> str:
    """Return the plan as a sentence, for screen readers."""
    plan = drawing.plan
    parts = ", then ".join(f"blocks {p.first} to {p.last} on {p.node} {p.unit}" for p in plan.partitions)
    steps = ", ".join(f"{step.text} {show(DURATION, step.seconds)}" for step in budget(drawing.mission, plan))
    return f"{drawing.mission.metadata.name}: {plan.mode} {plan.label}, {parts}. Latency: {steps}."


class _Panel:
    """Panel of one mission: title, lanes, latency budget and legend, from top to bottom."""

    def __init__(self, drawing: PlanDrawing) -> None:
        self._drawing = drawing
        self._plan = drawing.plan
        variant = find_runnable_variant(drawing.model, drawing.plan.variant, drawing.plan.exit)
        assert variant is not None, "the plan was made of this model"
        self._variant = variant
        self._steps = budget(drawing.mission, drawing.plan)
        first = (drawing.plan.entry_node, "") if drawing.plan.partitions[0].node != drawing.plan.entry_node else None
        lanes = [(p.node, p.unit) for p in drawing.plan.partitions]
        self._lanes = list(dict.fromkeys([first, *lanes] if first else lanes))
        self._bar = _PADDING + 52 + _LANE_HEIGHT * len(self._lanes) + 30

    @property
    def height(self) -> float:
        return self._bar + 44 + _LINE_HEIGHT * ((len(self._steps) + 2) // 2) + _PADDING

    def draw(self) -> list[str]:
        """Return the SVG elements of the panel."""
        return [*self._title(), *self._chain(), *self._budget(), *self._legend()]

    def _title(self) -> Iterator[str]:
        plan, mission = self._plan, self._drawing.mission
        name = f"{mission.metadata.name}: {plan.mode}, {plan.variant}" + (f", exit {plan.exit}" if plan.exit else "")
        yield _text(_PADDING, _PADDING + 12, name, "name")
        if not self._drawing.is_feasible:
            yield _text(_WIDTH - _PADDING, _PADDING + 12, "infeasible: closest plan", "over", "end")
        figures = [f"rate up to {format_figure(RATE, plan.rate)}", f"energy {format_figure(ENERGY, plan.energy)}"]
        figures += [f"accuracy {format_figure(RATIO, plan.accuracy)}"] if mission.spec.objectives.accuracy else []
        if plan.fallback is not None:
            figures.append(f"fallback {plan.fallback.variant} on {plan.entry_node}")
        yield _text(_PADDING, _PADDING + 34, " · ".join(figures), "faint")

    # -------------------------------------------------------------------------------------------- lanes and blocks

    def _chain(self) -> Iterator[str]:
        for node, unit in self._lanes:
            y = self._y(node, unit)
            yield _rect(_PADDING, y - _LANE_HEIGHT / 2 + 4, _WIDTH - 2 * _PADDING, _LANE_HEIGHT - 8, "lane")
            yield _text(_PADDING + 10, y - 3, node)
            yield _text(_PADDING + 10, y + 13, unit or "input", "faint")
        edges = self._edges()
        if self._lanes[0][1] == "":
            at = self._y(*self._lanes[0])
            yield f'<circle cx="{_LEFT + 6}" cy="{at:g}" r="5" class="hop"/>'
            yield from self._arrow(0, (_LEFT + 12, at), (edges[0][0], self._y(*self._lanes[1])))
        crossing = 1 if self._lanes[0][1] == "" else 0
        for index, part in enumerate(self._plan.partitions):
            y = self._y(part.node, part.unit)
            yield from self._partition(index, edges[index], y)
            if index + 1 < len(self._plan.partitions):
                after = self._plan.partitions[index + 1]
                ends = (edges[index][-1], y), (edges[index + 1][0], self._y(after.node, after.unit))
                yield from self._arrow(crossing if after.node != part.node else None, *ends)
                crossing += after.node != part.node

    def _partition(self, index: int, edges: Sequence[float], y: float) -> Iterator[str]:
        part, colour = self._plan.partitions[index], _COLOURS[index % len(_COLOURS)]
        blocks = self._variant.blocks[part.first : part.last + 1]
        span = f"{part.first}..{part.last}"
        where = f'data-node="{escape(part.node)}" data-unit="{escape(part.unit)}"'
        yield f'<g class="partition" {where} data-span="{span}">'
        for block, left, right in zip(blocks, edges, edges[1:], strict=False):
            label = f"{block.name}: {block.work}, {block.parameters} of weights"
            yield _rect(left, y - _BLOCK_HEIGHT / 2 - 8, right - left - 1, _BLOCK_HEIGHT, colour, label)
        names = blocks[0].name if len(blocks) == 1 else f"{blocks[0].name} … {blocks[-1].name}"
        text = f"[{span}] {names}"
        end = edges[0] + _CHARACTER_WIDTH * len(text) > _WIDTH - _PADDING
        yield _text(edges[-1] if end else edges[0], y + _BLOCK_HEIGHT / 2 + 8, text, "faint", "end" if end else "start")
        yield "</g>"

    def _arrow(self, crossing: int | None, start: tuple[float, float], end: tuple[float, float]) -> Iterator[str]:
        """Yield the arrow between two partitions. crossing: index of the transfer; None between two units of a node."""
        (x1, y1), (x2, y2) = start, (end[0] - 2, end[1])
        y1, y2, middle = y1 - (8 if x1 > _LEFT + 12 else 0), y2 - 8, (x1 + x2) / 2
        bend = f"C{middle:.1f} {y1:g} {middle:.1f} {y2:g} {x2:.1f} {y2:g}"
        yield f'<path d="M{x1:.1f} {y1:g} {bend}" class="arrow" marker-end="url(#tip)"/>'
        if crossing is not None:
            transfer = self._plan.transfers[crossing]
            text = f"{format_bytes(transfer.size)} over {transfer.link}"
            fits = x2 + 8 + _CHARACTER_WIDTH * len(text) < _WIDTH - _PADDING
            yield _text(x2 + 8, y1 + 4, text, "cut") if fits else _text(x2 - 12, y2 + 4, text, "cut", "end")

    def _edges(self) -> list[list[float]]:
        """Return the x coordinates of the block edges of each partition.

        The width of a block is a visible minimum plus a share in proportion to its work.
        """
        variant, parts = self._variant, self._plan.partitions
        gaps = _ARROW_GAP * (len(parts) - 1 + (self._lanes[0][1] == ""))
        width, count = _LANE_WIDTH - gaps, sum(p.last - p.first + 1 for p in parts)
        minimum = min(4.0, width / (2 * count))
        work = _work(variant)
        total = sum(sum(work[p.first : p.last + 1]) for p in parts)
        x, found = _LEFT + (_ARROW_GAP if self._lanes[0][1] == "" else 0.0), []
        for part in parts:
            edges = [x]
            for value in work[part.first : part.last + 1]:
                x += minimum + (width - minimum * count) * (value / total if total else 1 / count)
                edges.append(x)
            found.append(edges)
            x += _ARROW_GAP
        return found

    def _y(self, node: str, unit: str) -> float:
        """Return the y coordinate of the middle of a lane."""
        return _PADDING + 52 + _LANE_HEIGHT * (self._lanes.index((node, unit)) + 0.5)

    # -------------------------------------------------------------------------------------------- latency budget

    def _budget(self) -> Iterator[str]:
        latency = self._drawing.mission.spec.objectives.latency
        limit = parse(DURATION, latency.at_most) if latency else None
        tail = self._plan.latency.value
        scale = _LANE_WIDTH / max(tail, limit or 0.0)
        yield _text(_PADDING + 10, self._bar + 12, f"latency p{latency.percentile if latency else 95}")
        yield _text(_PADDING + 10, self._bar + 28, format_figure(DURATION, self._plan.latency), "faint")
        x = float(_LEFT)
        for step in self._steps:
            width = step.seconds * scale
            title = f"{step.text}: {show(DURATION, step.seconds)}"
            yield _rect(x, self._bar, width, 24, step.kind, title, f' data-seconds="{step.seconds:.9f}"')
            x += width
        if limit is None:
            return
        edge = _LEFT + limit * scale
        if limit > tail:
            yield _rect(x, self._bar + 0.5, edge - x, 23, "left")
        yield f'<line x1="{edge:.2f}" y1="{self._bar - 4}" x2="{edge:.2f}" y2="{self._bar + 28}" class="limit"/>'
        text, end = f"limit {latency.at_most if latency else ''}", edge > _WIDTH / 2
        yield _text(edge, self._bar - 8, text, "", "end" if end else "start")

    def _legend(self) -> Iterator[str]:
        latency = self._drawing.mission.spec.objectives.latency
        rows = [(step.kind, f"{step.text}: {show(DURATION, step.seconds)}") for step in self._steps]
        if latency is not None:
            slack = parse(DURATION, latency.at_most) - self._plan.latency.value
            rows.append(
                ("left", f"slack: {show(DURATION, slack)} ({format_margin(slack / parse(DURATION, latency.at_most))})")
                if slack >= 0
                else ("", f"limit exceeded by {show(DURATION, -slack)}")
            )
        for index, (kind, text) in enumerate(rows):
            x, y = _LEFT + (index % 2) * (_LANE_WIDTH / 2), self._bar + 44 + _LINE_HEIGHT * (index // 2)
            if kind:
                yield _rect(x + 0.5, y + 0.5, 11, 11, kind)
            yield _text(x + (18 if kind else 0), y + 10, text, "" if kind else "over")


def _work(variant: Variant) -> list[float]:
    """Return the operations of each block."""
    return [parse(WORK, block.work) for block in variant.blocks]


def _colours(scheme: int) -> str:
    """Return the CSS rules of a colour scheme. scheme: 1 on light, 2 on dark backgrounds."""
    return "".join(f"{name} {{ {row[0]}: {row[scheme]}; }}\n" for name, row in _PALETTE.items())


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str = "", data: str = "") -> str:
    shape = f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" class="{kind}"{data}'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{placed}>{escape(text)}</text>'
