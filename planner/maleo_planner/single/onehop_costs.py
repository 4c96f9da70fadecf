"""Costs of a variant on units one hop away, as arrays that are shared by missions with equal costs and links."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.model import Model, size_of
from maleo_planner.cost_model.span_cost import LinkFacts, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import find_ends, list_spans
from maleo_planner.graph.transfer_costs import list_sizes
from maleo_planner.inventory.fleet_index import FleetIndex, IndexCache
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.variants import Edition

_KEPT: Final = 4096  # cached rows over all stages of a variant


@dataclass(frozen=True, slots=True)
class Row:
    """A unit and the link to it, None on the input's own node. raw, features: whether egress lets it receive each."""

    unit: UnitFacts
    link: LinkFacts | None
    raw: bool
    features: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """Costs over R rows and B boundaries in SI units.

    there: (B, B) whether a span computes something; own, sigma, joules, memory: (R, B, B) of spans, joules nan where
    unknown.
    """

    ends: tuple[int, ...]
    sizes: Array  # (B,) bytes that cross, with the answer
    there: Mask
    own: Array
    sigma: Array
    joules: Array
    memory: Array
    wire: Array  # (R, B) seconds on the link
    overhead: Array  # (R,) seconds of a hop that do not depend on its bytes
    spread: Array  # (R,) relative deviation of the link's bandwidth
    radio: Array  # (R, B) joules of a hop


_STAGES: Final = IndexCache[tuple[str, str], dict[tuple[int, ...], Stage]]("stages")
"""(model, variant) -> identities of costs and links -> their stage. The index keeps these objects as long as caches."""
_TABLES: Final = IndexCache[tuple[str, str], tuple[dict[int, int], Array]]("tables")
"""(model, variant) -> (identity of costs -> row, (4, rows, B, B) figures of `_table`)."""
_LEAST: Final = IndexCache[tuple[str, str], Array]("least", by_classes=True)
"""(model, variant) -> `find_least`."""


def set_stage(index: FleetIndex, model: Model, variant: Edition, rows: Sequence[Row]) -> Stage:
    """Return the stage of these rows; the same cached object for rows with the same costs and links."""
    costs = [cost for row in rows if (cost := index.costs(model, variant, row.unit)) is not None]
    assert len(costs) == len(rows), "all rows can run the variant"
    known = index.cache(_STAGES).setdefault((model.key, variant.label), {})
    key = (*map(id, costs), *(id(row.link) for row in rows))
    if key not in known:
        if (len(known) + 1) * len(rows) > _KEPT:
            known.clear()
        known[key] = _set(index, model, variant, costs, [row.link for row in rows])
    return known[key]


def _set(
    index: FleetIndex, model: Model, variant: Edition, costs: Sequence[SpanCosts], links: Sequence[LinkFacts | None]
) -> Stage:
    """Compute the stage of rows with these costs and links."""
    ends = find_ends(variant)
    there = np.triu(np.ones((len(ends), len(ends)), dtype=bool), 1)
    own, sigma, joules, memory = _table(index, model, variant, costs)
    answer = size_of(model.spec.outputs)
    sizes = list_sizes(variant, ends, size_of(model.spec.inputs)) + answer
    detour = np.array([link.detour(answer) if link else 0.0 for link in links])
    bandwidth = np.array([link.bandwidth.value if link else np.inf for link in links])
    deviation = np.array([link.bandwidth.sigma if link else 0.0 for link in links])
    return Stage(
        ends=ends,
        sizes=sizes,
        there=there,
        own=own,
        sigma=sigma,
        joules=joules,
        memory=memory,
        wire=sizes / bandwidth[:, None] + detour[:, None],
        overhead=np.array([link.fixed if link else 0.0 for link in links]),
        spread=np.where(np.isfinite(bandwidth), deviation / bandwidth, 0.0),
        radio=sizes * np.array([link.energy_per_byte if link else 0.0 for link in links])[:, None],
    )


def _table(index: FleetIndex, model: Model, variant: Edition, costs: Sequence[SpanCosts]) -> Array:
    """Return (4, R, B, B): own seconds, sigma, joules and memory, zero for empty spans.

    The rows are gathered from a table that is cached for all costs of the variant.
    """
    tables, key, ends = index.cache(_TABLES), (model.key, variant.label), find_ends(variant)
    places, table = tables.get(key, (dict[int, int](), np.empty((4, 0, len(ends), len(ends)))))
    new = {id(cost): cost for cost in costs if id(cost) not in places}
    if new:
        grids = np.stack([np.stack(list_spans(cost, ends)) for cost in new.values()], axis=1)
        places |= {name: len(places) + i for i, name in enumerate(new)}
        table = np.concatenate([table, np.where(np.isinf(grids), 0.0, grids)], axis=1)
        tables[key] = places, table
    found: Array = table[:, [places[id(cost)] for cost in costs]]
    return found


def find_least(index: FleetIndex, model: Model, variant: Edition) -> Array:
    """Return (3, B, B): the least seconds, sigma and joules of each span over all classes, each separately."""
    known, key = index.cache(_LEAST), (model.key, variant.label)
    if key not in known:
        costs = {id(c): c for each in index.classes if (c := index.costs(model, variant, each.members[0])) is not None}
        known[key] = np.fmin.reduce(_table(index, model, variant, list(costs.values()))[:3], axis=1)
    return known[key]
