"""The question "what if": snapshots with a node less, devices more, another link, another spec."""

import difflib
from dataclasses import replace
from typing import Final

import yaml
from pydantic import ValidationError

from maleo_api.device import Device, Link
from maleo_api.meta import Basis, Tier
from maleo_api.mission import Mission
from maleo_api.quantities import BANDWIDTH, parse
from maleo_cli.failure import Failure
from maleo_operator.planning.index import Index
from maleo_operator.planning.problem import Figure, NodeFacts, Snapshot

_ROUND_TRIP: Final = "2ms"  # of a link that nobody has declared: a local network


def without_node(snapshot: Snapshot, node: str) -> Snapshot:
    """As if the node were not there."""
    if node not in snapshot.nodes:
        raise Failure(
            f"--without: there is no node {node}", f"there are {', '.join(sorted(snapshot.nodes))}", exit_code=2
        )
    return replace(snapshot, nodes={name: facts for name, facts in snapshot.nodes.items() if name != node})


def with_devices(snapshot: Snapshot, profile: str, *, count: int, site: str, tier: Tier) -> Snapshot:
    """As if `count` more nodes, added-1, added-2, ... carried this hardware; Links of their site or tier join them."""
    if profile not in snapshot.profiles:
        near = difflib.get_close_matches(profile, snapshot.profiles, n=5) or sorted(snapshot.profiles)[:8]
        raise Failure(f"--add-device: no DeviceProfile {profile} is known", f"there are {', '.join(near)}", exit_code=2)
    nodes, devices = dict(snapshot.nodes), dict(snapshot.devices)
    for number in range(1, count + 1):
        name = f"added-{number}"
        nodes[name] = NodeFacts(name=name, site=site, tier=tier, ready=True, schedulable=True)
        spec = {"nodeName": name, "declared": [{"name": "added", "profile": profile}]}
        devices[name] = Device.model_validate({"metadata": {"name": name}, "spec": spec})
    return replace(snapshot, nodes=nodes, devices=devices)


def with_link(snapshot: Snapshot, text: str) -> Snapshot:
    """`A/B=10Mbit/s`: as if this were measured between two nodes, over a link of its own where none is declared."""
    ends, _, bandwidth = text.partition("=")
    one, _, other = ends.partition("/")
    if not {one, other} <= set(snapshot.nodes):
        raise Failure(f"--link {text}: {one!r} or {other!r} is no node", "write NODE/NODE=10Mbit/s", exit_code=2)
    try:
        value = parse(BANDWIDTH, bandwidth)
    except ValueError as error:
        raise Failure(f"--link {text}: {error}", exit_code=2) from error
    figure = Figure(value, 0.0, Basis.DECLARED, "--link")
    changed = {**snapshot.observations.bandwidth, (one, other): figure, (other, one): figure}
    links = dict(snapshot.links)
    if Index(snapshot).link(snapshot.nodes[one], snapshot.nodes[other]) is None:
        spec = {"between": [{"node": one}, {"node": other}], "bandwidth": bandwidth, "roundTrip": _ROUND_TRIP}
        links[f"{one}-{other}"] = Link.model_validate({"metadata": {"name": f"{one}-{other}"}, "spec": spec})
    return replace(snapshot, links=links, observations=replace(snapshot.observations, bandwidth=changed))


def with_spec(snapshot: Snapshot, text: str) -> Snapshot:
    """`MISSION.objectives.latency.atMost=30ms`: as if the mission's spec said so."""
    path, separator, value = text.partition("=")
    name, _, field = path.partition(".")
    keys = [key for key in snapshot.missions if key.rpartition("/")[2] == name]
    if not separator or not field or len(keys) != 1:
        raise Failure(
            f"--set {text}: no such mission or field", "write MISSION.objectives.latency.atMost=30ms", exit_code=2
        )
    body = snapshot.missions[keys[0]].to_api()
    *parents, last = field.split(".")
    place = body["spec"]
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = yaml.safe_load(value)
    try:
        changed = Mission.model_validate(body)
    except ValidationError as error:
        raise Failure(f"--set {text}: {error.errors()[0]['msg']}", exit_code=2) from error
    return replace(snapshot, missions={**snapshot.missions, keys[0]: changed})
