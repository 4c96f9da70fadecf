"""What lies beyond a menu: a bound of all ways that it does not hold, with more parts or over nodes farther off."""

from itertools import product
from typing import Final

import numpy as np

from maleo_operator.planning.amount import Array
from maleo_operator.planning.coding import count_codecs
from maleo_operator.planning.edition import Edition
from maleo_operator.planning.lattice import TIE, Prices
from maleo_operator.planning.menu import Menu, is_plain, most_rows
from maleo_operator.planning.objective import HIGHEST, UNCERTAINTY
from maleo_operator.planning.reach import Hop
from maleo_operator.planning.solver import Search
from maleo_operator.planning.stage import find_least

_MORE: Final = 3  # parts that may follow the first


def is_complete(search: Search) -> bool:
    """Whether what is on no menu is bounded by one: no codec, no lossy cut and no unit that is not plain counts."""
    return all(_covers(search, variant) for variant in search.variants())


def _covers(search: Search, variant: Edition) -> bool:
    index = search.index
    key = ("covers", search.model.key, variant.label, search.demand.accuracy is None)
    if key not in index.routes:
        able = [u for each in index.classes if search.mismatch(variant, u := each.members[0]) is None]
        members = sum(len(each.members) for each in index.classes)
        index.routes[key] = (
            members <= most_rows(variant)
            and not count_codecs(variant)
            and not any(search.demand.loss(variant, block) for block in range(len(variant.blocks)))
            and all(is_plain(search, unit, variant) for unit in able)
        )
    return bool(index.routes[key])


def bound_beyond(menu: Menu, prices: Prices | None = None) -> float:
    """No way that is not on the menu has a higher objective less what it costs by `prices`; infinite where the aim is
    one that is not bounded here.
    """
    aim = menu.search.aim
    if not _covers(menu.search, menu.variant) or aim in {"energy", "rate"}:
        return HIGHEST if aim == "margins" else np.inf
    if len(menu.stage.ends) < 3:  # noqa: PLR2004 - nowhere to cut
        return -np.inf
    if aim == "latency":
        return -_cheapest(menu, 1.0, 0.0, 0.0, None)
    latency, energy = menu.search.demand.latency, menu.search.demand.energy
    _, by_latency, by_energy = menu.search.demand.weights
    soft = [limit is not None and not limit.hard for limit in (latency, energy)]
    if latency is not None and latency.hard and _cheapest(menu, 1.0, 0.0, 0.0, None) > latency.value * (1 + TIE):
        return -np.inf
    found = -np.inf
    for over in product(*((False, True) if each else (False,) for each in soft)):
        most, seconds, unsure, joules = menu.accuracy(), 0.0, 0.0, 0.0
        if latency is not None:
            most += by_latency * (-1 if over[0] else 1)
            seconds = 0.0 if over[0] else by_latency / latency.value
            unsure = UNCERTAINTY / latency.value
        if energy is not None:
            most += by_energy * (-1 if over[1] else 1)
            joules = 0.0 if over[1] else by_energy / energy.value
        found = max(found, most - _cheapest(menu, seconds, unsure, joules, prices))
    return found


def _cheapest(menu: Menu, seconds: float, unsure: float, joules: float, prices: Prices | None) -> float:
    """The least that such a way costs at this much for a second, a second of doubt and a joule."""
    search, stage, here, last = menu.search, menu.stage, menu.here, len(menu.stage.ends) - 1
    doubt, energy = (seconds + unsure) * search.demand.z, search.demand.energy
    wait = seconds * menu.wait + doubt * menu.unsure
    span = seconds * stage.own + doubt * stage.sigma + np.where(np.isfinite(wait), wait, 0.0)[:, None, None]
    hop = (seconds + doubt * stage.spread[:, None]) * stage.wire + seconds * stage.overhead[:, None]
    if energy is not None and joules:
        span += joules * menu.joules()
        hop += joules * stage.radio
    if prices is not None:
        span += menu.span_price(prices, (slice(None),) * 3)
        hop += menu.hop_price(prices)
    span = np.where(menu.fits, span, np.inf)
    hop = np.where(menu.open, hop, np.inf)
    reach, spots = search.reach, [search.index.spot(row.unit.node) for row in menu.rows]
    into = {spot: _least_hop(menu, reach.inbound.get(spot), seconds, joules) for spot in dict.fromkeys(spots)}
    inbound, ahead = np.array([into[spot] for spot in spots]), span
    if here > 2:  # noqa: PLR2004 - a third unit of the same node
        inbound[:here] = 0.0
    if reach.entry is not None:
        anywhere = find_least(search.index, search.model, menu.variant)
        least = seconds * anywhere[0] + doubt * anywhere[1]
        if joules and energy is not None:
            least = least + joules * np.where(np.isnan(anywhere[2]), 2 * energy.value, anywhere[2])
        slow = ~stage.there | (search.demand.rate * anywhere[0] > 1 + TIE)
        ahead = np.concatenate([span, _chain(np.where(slow, np.inf, least))[None]])
        inbound = np.concatenate([inbound, _least_hop(menu, reach.entry, seconds, joules)[None]])
    rest = np.full(last + 1, np.inf)
    rest[last] = 0.0
    for _ in range(_MORE):
        then = (inbound + (ahead + rest).min(axis=2)).min(axis=0)
        then[last] = 0.0
        rest = np.minimum(rest, then)
    first = hop[:, 0, None] + span[:, 0, :]
    starts = [first[here:].min(axis=0, initial=np.inf)] if "Remote" in search.demand.mission.spec.modes else []
    home = first[:here].min(axis=0, initial=np.inf)
    second = (home[None, :, None] + hop[:, :, None] + span).min(axis=1)
    starts.append(second[here:].min(axis=0, initial=np.inf))
    if here > 1:
        starts.append(second[:here].min(axis=0))
    return min(float((start + rest)[1:last].min()) for start in starts)


def _least_hop(menu: Menu, best: Hop | None, seconds: float, joules: float) -> Array:
    sizes = menu.stage.sizes
    if best is None or not best.bandwidth:
        return np.full_like(sizes, np.inf)
    return seconds * (sizes / best.bandwidth + best.overhead) + joules * sizes * best.per_byte


def _chain(span: Array) -> Array:
    """The cheapest chain of spans between two boundaries, of up to as many parts as may follow the first."""
    found = span
    for _ in range(_MORE - 1):
        found = np.minimum(found, (found[:, :, None] + span[None, :, :]).min(axis=1))
    return found
