"""The question "what if": snapshots with a node less, devices more, another link, another spec."""

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import yaml

from maleo_api.device import Device, Link
from maleo_api.manifests import ManifestError, revise
from maleo_api.meta import Basis, Tier
from maleo_api.quantities import BANDWIDTH, parse
from maleo_cli.failure import Failure
from maleo_operator.planning.index import Index
from maleo_operator.planning.problem import Figure, NodeFacts, Snapshot
from maleo_operator.planning.units import DEFAULT_SPREAD

_ROUND_TRIP: Final = "2ms"  # of a link that nobody has declared: a local network


@dataclass(frozen=True, slots=True)
class Devices:
    """`count` nodes with each of these profiles."""

    profiles: Sequence[str]
    count: int
    site: str
    tier: Tier


def suppose(
    snapshot: Snapshot, *, without: Sequence[str], more: Devices, links: Sequence[str], specs: Sequence[str]
) -> Snapshot:
    """All of it, in this order: a link may name an added node. Failure, exit code 2, for what makes no sense."""
    for node in without:
        snapshot = without_node(snapshot, node)
    for profile in more.profiles:
        snapshot = with_devices(snapshot, profile, count=more.count, site=more.site, tier=more.tier)
    for text in links:
        snapshot = with_link(snapshot, text)
    for text in specs:
        snapshot = with_spec(snapshot, text)
    return snapshot


def without_node(snapshot: Snapshot, node: str) -> Snapshot:
    """As if the node were not there."""
    if node not in snapshot.nodes:
        raise Failure(f"--without: there is no node {node}", _nodes(snapshot), exit_code=2)
    return replace(snapshot, nodes={name: facts for name, facts in snapshot.nodes.items() if name != node})


def with_devices(snapshot: Snapshot, profile: str, *, count: int, site: str, tier: Tier) -> Snapshot:
    """As if `count` more nodes, added-1, added-2, ... carried this hardware; Links of their site or tier join them."""
    if profile not in snapshot.profiles:
        near = difflib.get_close_matches(profile, snapshot.profiles, n=5) or sorted(snapshot.profiles)[:8]
        raise Failure(f"--add-device: no DeviceProfile {profile} is known", f"there are {', '.join(near)}", exit_code=2)
    nodes, devices = dict(snapshot.nodes), dict(snapshot.devices)
    free = (name for number in itertools.count(1) if (name := f"added-{number}") not in snapshot.nodes)
    for name in itertools.islice(free, count):
        nodes[name] = NodeFacts(name=name, site=site, tier=tier, ready=True, schedulable=True)
        spec = {"nodeName": name, "declared": [{"name": "added", "profile": profile}]}
        devices[name] = Device.model_validate({"metadata": {"name": name}, "spec": spec})
    return replace(snapshot, nodes=nodes, devices=devices)


def unjoined(before: Snapshot, after: Snapshot) -> list[str]:
    """Nodes that were added and that no Link joins to any other: nothing can reach them."""
    index = Index(after)
    return [
        name
        for name, node in after.nodes.items()
        if name not in before.nodes
        and not any(index.link(node, other) for other in after.nodes.values() if other.name != name)
    ]


def with_link(snapshot: Snapshot, text: str) -> Snapshot:
    """`A/B=10Mbit/s`: as if this were declared between two nodes, by a link of its own where there is none."""
    ends, _, bandwidth = text.partition("=")
    one, _, other = ends.partition("/")
    unknown = [name for name in (one, other) if name not in snapshot.nodes]
    if unknown or one == other:
        what = f"{unknown[0]!r} is no node" if unknown else "the two ends must differ"
        raise Failure(f"--link {text}: {what}", f"write NODE/NODE=10Mbit/s; {_nodes(snapshot)}", exit_code=2)
    try:
        value = parse(BANDWIDTH, bandwidth)
    except ValueError as error:
        raise Failure(f"--link {text}: {error}", exit_code=2) from error
    if value == 0:
        raise Failure(f"--link {text}: no bandwidth is no link", "leave a node out with --without", exit_code=2)
    figure = Figure(value, DEFAULT_SPREAD * value, Basis.DECLARED, "--link")
    changed = {**snapshot.observations.bandwidth, (one, other): figure, (other, one): figure}
    links = dict(snapshot.links)
    if Index(snapshot).link(snapshot.nodes[one], snapshot.nodes[other]) is None:
        spec = {"between": [{"node": one}, {"node": other}], "bandwidth": bandwidth, "roundTrip": _ROUND_TRIP}
        links[f"{one}-{other}"] = Link.model_validate({"metadata": {"name": f"{one}-{other}"}, "spec": spec})
    return replace(snapshot, links=links, observations=replace(snapshot.observations, bandwidth=changed))


def with_spec(snapshot: Snapshot, text: str) -> Snapshot:
    """`MISSION.objectives.latency.atMost=30ms`: as if the mission's spec said so; also NAMESPACE/MISSION."""
    path, separator, value = text.partition("=")
    keys = [key for key in snapshot.missions if path.startswith((f"{key}.", f"{key.rpartition('/')[2]}."))]
    if not separator or len(keys) != 1:
        told = "more than one mission has this name" if len(keys) > 1 else "no such mission"
        remedy = f"write MISSION.objectives.latency.atMost=30ms; there are {', '.join(sorted(snapshot.missions))}"
        raise Failure(f"--set {text}: {told}", remedy, exit_code=2)
    key = keys[0]
    field = path.removeprefix(f"{key}.").removeprefix(f"{key.rpartition('/')[2]}.")
    try:
        changed = revise(snapshot.missions[key], {field: yaml.safe_load(value)})
    except (ManifestError, yaml.YAMLError) as error:
        raise Failure(f"--set {text}: {error}", exit_code=2) from error
    return replace(snapshot, missions={**snapshot.missions, key: changed})


def _nodes(snapshot: Snapshot) -> str:
    return f"there are {', '.join(sorted(snapshot.nodes))}"
