"""Units that data may reach in one hop from its source, and bounds on further hops."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_planner.inventory.egress_reach import Reach, find_reach
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.types.problem import Snapshot
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

NET = model(variant("fp32", [block("a", mop=50, cut=1000), block("b", mop=50, cut=None)]))
SITES = {"drone": "field", "gate": "field", "edge": "yard", "cloud": ""}


def world(*links: Any, **sites: str) -> Snapshot:
    found = snapshot(
        profiles={name: profile(f"p-{name}") for name in SITES}, missions=[mission()], net=NET, links=list(links)
    )
    nodes = {name: replace(each, site=(SITES | sites)[name]) for name, each in found.nodes.items()}
    return replace(found, nodes=nodes)


STAR = world(*(link("drone", name, "80Mbit/s") for name in ("gate", "edge", "cloud")))


def reach(found: Snapshot, raw: Any, features: Any) -> Reach:
    return find_reach(FleetIndex(found), found.nodes["drone"], raw, features)


def targets(found: Reach) -> dict[str, str]:
    """Return node -> what it may receive."""
    rows = {target.unit_class.members[0].node.name: target for target in found.targets}
    return {n: " ".join(k for k in ("raw", "features") if getattr(row, k)) for n, row in rows.items() if n != "drone"}


@pytest.mark.parametrize(
    ("raw", "features", "want"),
    [
        ("Any", "Any", {"gate": "raw features", "edge": "raw features", "cloud": "raw features"}),
        ("Site", "Any", {"gate": "raw features", "edge": "features", "cloud": "features"}),
        ("Site", "Site", {"gate": "raw features"}),
        ("Device", "Site", {"gate": "features"}),
        ("Device", "Device", {}),
    ],
)
def test_targets__are_the_nodes_that_egress_permits(raw: str, features: str, want: dict[str, str]) -> None:
    assert targets(reach(STAR, raw, features)) == want


def test_nodes_without_a_site__do_not_share_a_site() -> None:
    found = world(link("drone", "cloud", "80Mbit/s"), drone="")
    assert targets(reach(found, "Site", "Site")) == {}


def test_entry__bounds_hops_from_targets_to_nodes_without_a_link() -> None:
    chain = world(link("drone", "gate", "80Mbit/s", "3ms"), link("gate", "edge", "8Mbit/s", "5ms"))
    found = reach(chain, "Any", "Any")
    assert set(targets(found)) == {"gate"}
    assert found.entry is not None
    assert found.entry.bandwidth == 1e6
    assert found.entry.overhead == pytest.approx(0.006)


def test_entry__is_none_without_further_nodes() -> None:
    assert reach(world(link("drone", "gate", "80Mbit/s")), "Any", "Any").entry is None
    assert reach(STAR, "Any", "Any").entry is None, "every node is a target"


def test_inbound_hop__is_bounded_by_the_best_of_all_links() -> None:
    """The values may stem from different links, so the bound is optimistic in each of them."""
    found = world(
        link("drone", "gate", "8Mbit/s", "1ms"),
        link("edge", "gate", "80Mbit/s", "9ms"),
        link("drone", "edge", "8Mbit/s", "9ms"),
    )
    made = reach(found, "Any", "Any")
    index = FleetIndex(found)
    hop = made.inbound[index.location(found.nodes["gate"])]
    assert hop.bandwidth == 1e7
    assert hop.overhead == pytest.approx(0.002)


def test_reach__is_computed_once_for_equal_sources() -> None:
    index = FleetIndex(STAR)
    first = find_reach(index, STAR.nodes["drone"], "Any", "Any")
    assert find_reach(index, STAR.nodes["drone"], "Any", "Any") is first
    assert find_reach(index, STAR.nodes["drone"], "Any", "Site") is not first
