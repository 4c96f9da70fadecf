"""Notices about accepted but probably unintended input: of equally specific Links the first by name is used."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.device import Link
from maleo_planner.explanations.notices import list_notices
from maleo_planner.inventory.fleet_index import FleetIndex
from maleo_planner.types.problem import Snapshot
from support.planner.builders import block, meta, mission, model, profile, snapshot, variant

DRONE, EDGE = {"node": "drone"}, {"node": "edge"}
FIELD, YARD, ANY = {"site": "field"}, {"site": "yard"}, {"tier": "Device"}


def _world(**links: list[dict[str, str]]) -> Snapshot:
    """Return drone and cam on site `field`, edge on `yard`; links: name -> its two ends."""
    made = {
        name: Link.model_validate(
            {"metadata": meta(name), "spec": {"between": ends, "bandwidth": "10Mbit/s", "roundTrip": "1ms"}}
        )
        for name, ends in links.items()
    }
    found = snapshot(
        profiles={name: profile("p") for name in ("drone", "cam", "edge")},
        missions=[mission()],
        net=model(variant("fp32", [block("a", mop=1, cut=None)])),
    )
    sites = {"drone": "field", "cam": "field", "edge": "yard"}
    nodes = {name: replace(node, site=sites[name]) for name, node in found.nodes.items()}
    return replace(found, links=made, nodes=nodes)


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({"a": [DRONE, EDGE], "b": [DRONE, EDGE]}, ["Link/b: as specific as Link/a between nodes drone and edge"]),
        ({"a": [DRONE, EDGE], "b": [EDGE, DRONE]}, ["Link/b: as specific as Link/a between nodes drone and edge"]),
        ({"a": [FIELD, YARD], "b": [YARD, FIELD]}, ["Link/b: as specific as Link/a between nodes cam and edge"]),
        ({"a": [DRONE, YARD], "b": [FIELD, EDGE]}, ["Link/b: as specific as Link/a between nodes drone and edge"]),
        ({"a": [FIELD, YARD], "b": [DRONE, ANY]}, ["Link/b: as specific as Link/a between nodes drone and edge"]),
        ({"a": [FIELD, FIELD], "b": [FIELD, FIELD]}, ["Link/b: as specific as Link/a between nodes cam and drone"]),
        (
            {"a": [DRONE, EDGE], "b": [DRONE, EDGE], "c": [DRONE, EDGE]},
            [f"Link/{name}: as specific as Link/a between nodes drone and edge" for name in "bc"],
        ),
        ({"a": [DRONE, EDGE], "b": [FIELD, YARD], "c": [FIELD, ANY], "d": [ANY, ANY]}, []),
        ({"a": [DRONE, YARD], "b": [FIELD, EDGE], "c": [DRONE, EDGE]}, []),
        ({"a": [{"site": "moon"}, YARD], "b": [YARD, {"site": "moon"}]}, []),
    ],
)
def test_equally_specific_links__are_reported_once_unless_a_more_specific_one_exists(
    links: dict[str, Any], expected: list[str]
) -> None:
    found = _world(**links)
    index = FleetIndex(found)
    assert [notice.partition(", so the first by name is used")[0] for notice in list_notices(found, index)] == expected
    for notice in expected:
        one, other = (found.nodes[name] for name in notice.partition(" nodes ")[2].split(" and "))
        used = index.link(one, other)
        assert used is not None
        assert used.name == "a", "the Link that the notice names is used"
