"""Links with different rates per direction: a request takes one direction, its response the other."""

from dataclasses import replace

import pytest

from maleo_api.device import Link
from maleo_api.meta import Basis, Tier
from maleo_api.model import Model
from maleo_cli.what_if import with_link
from maleo_planner.cost_model.span_cost import LinkFacts
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.planner import decide
from maleo_planner.types.problem import Estimate, Feasible, Observations, Plan, Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

_MBIT = 1e6 / 8
_FAST, _SLOW = "200Mbit/s", "2Mbit/s"
_FIXED_S = 0.001 + 0.001  # round trip, and a message's serialisation


def _directed(up: str, down: str, ends: tuple[str, str] = ("drone", "edge")) -> Link:
    plain = link(*ends, "1Mbit/s").to_api()
    spec = {name: value for name, value in plain["spec"].items() if name != "bandwidth"}
    return Link.model_validate({**plain, "spec": spec | {"up": up, "down": down}})


def _world(joined: Link, *, inputs: int = 1000, outputs: int = 10) -> Snapshot:
    """Return a slow drone with the input and a fast edge; after the first block little is left to send."""
    chain = [block("stem", mop=100, cut=200), block("head", mop=900, cut=None)]
    net = model(variant("fp32", chain), inputs=inputs).to_api()
    net["spec"]["outputs"][0]["shape"] = [1, outputs]
    return snapshot(
        profiles={"drone": profile("p-drone", gops=2), "edge": profile("p-edge", gops=1000)},
        missions=[mission(objectives={"latency": {"atMost": "900ms"}})],
        net=Model.model_validate(net),
        links=[joined],
    )


def _plan(found: Snapshot) -> Plan:
    verdict = decide(found, "default/watch")
    assert isinstance(verdict, Feasible)
    return verdict.plan


def test_split__is_chosen_by_the_direction_of_the_data() -> None:
    """60,000 input values take 0.96 s at 2 Mbit/s, the 200 after the first block 3 ms; the response is small."""
    up, down = (_plan(_world(_directed(*rates), inputs=60_000)) for rates in ((_FAST, _SLOW), (_SLOW, _FAST)))
    assert (up.mode, down.mode) == ("Remote", "Split")
    swapped = _plan(_world(_directed(_SLOW, _FAST, ends=("edge", "drone")), inputs=60_000))
    assert swapped.mode == "Remote", "up is from the first end of the Link to the second"
    assert swapped.latency.value == up.latency.value


def test_response__takes_the_opposite_direction() -> None:
    """An image is sent and a larger one is returned."""
    (transfer,) = _plan(_world(_directed(_FAST, "50Mbit/s"), inputs=1000, outputs=50_000)).transfers
    wire = 4000 / (200 * _MBIT) + 200_000 / (50 * _MBIT)
    assert transfer.wire == pytest.approx(wire)
    assert transfer.time.value == pytest.approx(wire + _FIXED_S)
    local = _plan(_world(_directed(_FAST, _SLOW), inputs=1000, outputs=50_000))
    assert local.mode == "Local", "0.8 s for the response"


def test_bandwidth__equals_the_same_rate_in_both_directions() -> None:
    links = link("drone", "edge", _FAST), _directed(_FAST, _FAST)
    one, both = (_plan(_world(each, inputs=60_000, outputs=5000)) for each in links)
    assert one == both


def _facts(found: Snapshot, source: str, target: str) -> LinkFacts:
    facts = FleetIndex(found).link(found.nodes[source], found.nodes[target])
    assert facts is not None
    return facts


def test_ends_of_a_link__may_be_sites_and_tiers() -> None:
    body = _directed("20Mbit/s", "80Mbit/s").to_api()
    body["spec"]["between"] = [{"site": "field"}, {"tier": "Cloud"}]
    found = _world(Link.model_validate(body))
    places = {"drone": {"site": "field", "tier": Tier.DEVICE}, "edge": {"site": "far", "tier": Tier.CLOUD}}
    found = replace(found, nodes={name: replace(node, **places[name]) for name, node in found.nodes.items()})
    there, back = _facts(found, "drone", "edge"), _facts(found, "edge", "drone")
    assert (there.bandwidth.value, there.reverse_bandwidth) == (20 * _MBIT, 80 * _MBIT)
    assert (back.bandwidth.value, back.reverse_bandwidth) == (80 * _MBIT, 20 * _MBIT)


def test_measured_bandwidth__applies_to_its_own_direction() -> None:
    found = _world(_directed("20Mbit/s", "80Mbit/s"))
    seen = Observations(bandwidth={("drone", "edge"): Estimate(1e6, 1e5, Basis.MEASURED)})
    there, back = (_facts(replace(found, observations=seen), *pair) for pair in (("drone", "edge"), ("edge", "drone")))
    assert (there.bandwidth.value, there.reverse_bandwidth) == (1e6, 80 * _MBIT)
    assert (back.bandwidth.value, back.reverse_bandwidth) == (80 * _MBIT, 1e6)
    what_if = _facts(with_link(found, "drone/edge=8Mbit/s"), "drone", "edge")
    assert (what_if.bandwidth.value, what_if.reverse_bandwidth) == (1e6, 1e6), (
        "a what-if bandwidth applies to both directions"
    )


def test_measurements_of_both_directions__are_not_mixed_if_the_link_names_tiers() -> None:
    """Both sites have nodes of both tiers, so the Link connects the same sites in either direction."""
    body = _directed("20Mbit/s", "80Mbit/s").to_api()
    body["spec"]["between"] = [{"tier": "Edge"}, {"tier": "Cloud"}]
    found = _world(Link.model_validate(body))
    names = [f"{tier}-{site}{number}" for tier in (Tier.EDGE, Tier.CLOUD) for site in "ab" for number in (1, 2)]
    node = found.nodes["drone"]
    nodes = {n: replace(node, name=n, site=n[-2], tier=Tier(n.partition("-")[0])) for n in names}
    seen = {("Edge-a1", "Cloud-b1"): 2e6, ("Cloud-a1", "Edge-b1"): 9e6}
    observations = Observations(bandwidth={pair: Estimate(rate, 0.0, Basis.MEASURED) for pair, rate in seen.items()})
    found = replace(found, nodes=nodes, observations=observations)
    others = {("Edge-a2", "Cloud-b2"): 2e6, ("Cloud-a2", "Edge-b2"): 9e6}
    assert {pair: _facts(found, *pair).bandwidth.value for pair in others} == others
