"""Costs of a variant on units one hop from the input, as arrays shared by missions with equal costs and links."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maleo_api.model import Model, size_of
from maleo_planner.cost_model.span_cost import LinkFacts, SpanCosts
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.graph.partition_graph import find_last_blocks, span_matrices
from maleo_planner.graph.transfer_costs import transfer_sizes
from maleo_planner.inventory.fleet_index import FleetIndex, IndexCache
from maleo_planner.types.numeric import Array, Mask
from maleo_planner.types.variants import RunnableVariant

_MAX_CACHED_ROWS: Final = 4096  # of all cached costs of a variant


@dataclass(frozen=True, slots=True)
class OneHopUnit:
    """Unit with the Link from the input node.

    Attributes:
        unit: The unit.
        link: The Link; None on the input node itself.
        raw: Whether egress permits the unit to receive raw input.
        features: Whether egress permits it to receive features.
    """

    unit: UnitFacts
    link: LinkFacts | None
    raw: bool
    features: bool


@dataclass(frozen=True, slots=True)
class OneHopCosts:
    """Costs of R units one hop from the input at B boundaries, in SI units.

    Attributes:
        last_blocks: Last finished block at each boundary.
        sizes: (B,) bytes that cross, including the answer.
        is_span: (B, B) mask of non-empty spans.
        compute: (R, B, B) mean seconds of spans.
        sigma: (R, B, B) standard deviations in seconds.
        joules: (R, B, B) joules of spans; nan if unknown.
        memory: (R, B, B) bytes of spans.
        link_seconds: (R, B) seconds on the link.
        fixed_seconds: (R,) seconds of a hop that do not depend on its size.
        bandwidth_spread: (R,) relative standard deviation of the bandwidth.
        link_joules: (R, B) joules of a hop.
    """

    last_blocks: tuple[int, ...]
    sizes: Array
    is_span: Mask
    compute: Array
    sigma: Array
    joules: Array
    memory: Array
    link_seconds: Array
    fixed_seconds: Array
    bandwidth_spread: Array
    link_joules: Array


_ONE_HOP_COSTS: Final = IndexCache[tuple[str, str], dict[tuple[int, ...], OneHopCosts]]("one-hop costs")
"""(model, variant) -> identities of costs and links -> one-hop costs; the index keeps the objects as long as caches."""
_SPAN_TABLES: Final = IndexCache[tuple[str, str], tuple[dict[int, int], Array]]("span tables")
"""(model, variant) -> (identity of costs -> row, (4, rows, B, B) values of `_gather_spans`)."""
_MINIMUM_SPANS: Final = IndexCache[tuple[str, str], Array]("minimum spans", depends_on_classes=True)
"""(model, variant) -> `find_minimum_spans`."""


def find_onehop_costs(
    index: FleetIndex, model: Model, variant: RunnableVariant, rows: Sequence[OneHopUnit]
) -> OneHopCosts:
    """Return the costs of these rows; the same cached object for rows with the same costs and links."""
    costs = [cost for row in rows if (cost := index.costs(model, variant, row.unit)) is not None]
    assert len(costs) == len(rows), "all rows can run the variant"
    known = index.cache(_ONE_HOP_COSTS).setdefault((model.key, variant.label), {})
    key = (*map(id, costs), *(id(row.link) for row in rows))
    if key not in known:
        if (len(known) + 1) * len(rows) > _MAX_CACHED_ROWS:
            known.clear()
        known[key] = _compute_onehop_costs(index, model, variant, costs, [row.link for row in rows])
    return known[key]


def _compute_onehop_costs(
    index: FleetIndex,
    model: Model,
    variant: RunnableVariant,
    costs: Sequence[SpanCosts],
    links: Sequence[LinkFacts | None],
) -> OneHopCosts:
    """Compute the costs of rows with these span costs and links."""
    last_blocks = find_last_blocks(variant)
    is_span = np.triu(np.ones((len(last_blocks), len(last_blocks)), dtype=bool), 1)
    compute, sigma, joules, memory = _gather_spans(index, model, variant, costs)
    output_bytes = size_of(model.spec.outputs)
    sizes = transfer_sizes(variant, last_blocks, size_of(model.spec.inputs)) + output_bytes
    return_delay = np.array([link.return_delay(output_bytes) if link else 0.0 for link in links])
    bandwidth = np.array([link.bandwidth.value if link else np.inf for link in links])
    deviation = np.array([link.bandwidth.sigma if link else 0.0 for link in links])
    return OneHopCosts(
        last_blocks=last_blocks,
        sizes=sizes,
        is_span=is_span,
        compute=compute,
        sigma=sigma,
        joules=joules,
        memory=memory,
        link_seconds=sizes / bandwidth[:, None] + return_delay[:, None],
        fixed_seconds=np.array([link.fixed_seconds if link else 0.0 for link in links]),
        bandwidth_spread=np.where(np.isfinite(bandwidth), deviation / bandwidth, 0.0),
        link_joules=sizes * np.array([link.energy_per_byte if link else 0.0 for link in links])[:, None],
    )


def _gather_spans(index: FleetIndex, model: Model, variant: RunnableVariant, costs: Sequence[SpanCosts]) -> Array:
    """Return (4, R, B, B) seconds, sigma, joules and memory; zero for empty spans.

    Rows are gathered from a table that is cached for all span costs of the variant.
    """
    tables, key, last_blocks = index.cache(_SPAN_TABLES), (model.key, variant.label), find_last_blocks(variant)
    positions, table = tables.get(key, (dict[int, int](), np.empty((4, 0, len(last_blocks), len(last_blocks)))))
    new = {id(cost): cost for cost in costs if id(cost) not in positions}
    if new:
        grids = np.stack([np.stack(span_matrices(cost, last_blocks)) for cost in new.values()], axis=1)
        positions |= {name: len(positions) + i for i, name in enumerate(new)}
        table = np.concatenate([table, np.where(np.isinf(grids), 0.0, grids)], axis=1)
        tables[key] = positions, table
    found: Array = table[:, [positions[id(cost)] for cost in costs]]
    return found


def find_minimum_spans(index: FleetIndex, model: Model, variant: RunnableVariant) -> Array:
    """Return (3, B, B) minimum seconds, sigma and joules of each span, each separately over all classes."""
    known, key = index.cache(_MINIMUM_SPANS), (model.key, variant.label)
    if key not in known:
        costs = {id(c): c for each in index.classes if (c := index.costs(model, variant, each.members[0])) is not None}
        known[key] = np.fmin.reduce(_gather_spans(index, model, variant, list(costs.values()))[:3], axis=1)
    return known[key]
