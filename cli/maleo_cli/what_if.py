"""What-if options of `maleo plan`: snapshots without a node, with more devices, another link or another spec."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import yaml

from maleo_api.device import Device, Link
from maleo_api.manifests import ManifestError, format_yaml_error, revise
from maleo_api.meta import Basis, Tier
from maleo_api.quantities import BANDWIDTH, parse
from maleo_api.spelling import suggest
from maleo_cli.errors import Failure
from maleo_planner import DEFAULT_SPREAD, Estimate, FleetIndex, NodeFacts, Snapshot

_FORM: Final = "MISSION.objectives.latency.atMost=30ms"
_ROUND_TRIP: Final = "2ms"  # of a link added by --link: that of a local network


@dataclass(frozen=True, slots=True)
class WhatIfOptions:
    """The what-if options as written. count, site, tier: apply to `add_device`; None if not given."""

    without: Sequence[str] = ()
    add_device: Sequence[str] = ()
    count: int | None = None
    site: str | None = None
    tier: Tier | None = None
    link: Sequence[str] = ()
    set: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Return True if no option changes the snapshot."""
        return not (self.without or self.add_device or self.link or self.set)


def apply_options(snapshot: Snapshot, options: WhatIfOptions) -> Snapshot:
    """Return the snapshot changed by all options, in a fixed order, so that a link may name an added node.

    Raise `Failure` with exit code 2 for invalid options.
    """
    dependent = {"--count": options.count, "--site": options.site, "--tier": options.tier}
    option = next((option for option, value in dependent.items() if value is not None), None)
    if option is not None and not options.add_device:
        raise Failure(f"{option} requires --add-device", "add --add-device PROFILE", exit_code=2)
    site = _check_site(snapshot, options.site) if options.site else ""
    for node in options.without:
        snapshot = without_node(snapshot, node)
    for profile in options.add_device:
        snapshot = with_devices(snapshot, profile, count=options.count or 1, site=site, tier=options.tier or Tier.EDGE)
    for text in options.link:
        snapshot = with_link(snapshot, text)
    for text in options.set:
        snapshot = with_spec(snapshot, text)
    return snapshot


def _check_site(snapshot: Snapshot, site: str) -> str:
    """Return `site`. Raise `Failure` unless a node or a link names it: a device on any other site would be isolated."""
    ends = {end.site for link in snapshot.links.values() for end in link.spec.between}
    sites = sorted({node.site for node in snapshot.nodes.values()} | {end for end in ends if end})
    if site not in sites:
        raise Failure(f"--site {site}: no node or Link has this site", suggest(site, filter(None, sites)), exit_code=2)
    return site


def without_node(snapshot: Snapshot, node: str) -> Snapshot:
    """Return the snapshot without a node. Raise `Failure` if the node does not exist."""
    if node not in snapshot.nodes:
        raise Failure(f"--without: unknown node {node!r}", suggest(node, sorted(snapshot.nodes)), exit_code=2)
    return replace(snapshot, nodes={name: facts for name, facts in snapshot.nodes.items() if name != node})


def with_devices(snapshot: Snapshot, profile: str, *, count: int, site: str, tier: Tier) -> Snapshot:
    """Return the snapshot with `count` more nodes, added-1, added-2, ..., that carry this hardware.

    Links of their site or tier connect them. Raise `Failure` if the profile is unknown.
    """
    if profile not in snapshot.profiles:
        suggestion = suggest(profile, sorted(snapshot.profiles))
        raise Failure(f"--add-device: unknown DeviceProfile {profile!r}", suggestion, exit_code=2)
    nodes, devices = dict(snapshot.nodes), dict(snapshot.devices)
    names = (name for number in itertools.count(1) if (name := f"added-{number}") not in snapshot.nodes)
    for name in itertools.islice(names, count):
        nodes[name] = NodeFacts(name=name, site=site, tier=tier, ready=True, schedulable=True)
        spec = {"nodeName": name, "declared": [{"name": "added", "profile": profile}]}
        devices[name] = Device.model_validate({"metadata": {"name": name}, "spec": spec})
    return replace(snapshot, nodes=nodes, devices=devices)


def find_unlinked(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the added nodes that no Link connects to any other node: they are unreachable."""
    index = FleetIndex(after)
    return [
        name
        for name, node in after.nodes.items()
        if name not in before.nodes
        and not any(index.link(node, other) for other in after.nodes.values() if other.name != name)
    ]


def with_link(snapshot: Snapshot, text: str) -> Snapshot:
    """Return the snapshot with another bandwidth between two nodes, and a Link between them if there is none.

    text: such as `A/B=10Mbit/s`. Raise `Failure` if a node is unknown or the bandwidth is invalid or zero.
    """
    ends, _, bandwidth = text.partition("=")
    a, _, b = ends.partition("/")
    unknown = [name for name in (a, b) if name not in snapshot.nodes]
    if unknown or a == b:
        problem = f"unknown node {unknown[0]!r}" if unknown else "the two nodes must differ"
        suggestion = suggest(unknown[0], sorted(snapshot.nodes)) if unknown else ""
        raise Failure(f"--link {text}: {problem}", f"write NODE/NODE=10Mbit/s; {suggestion}".rstrip("; "), exit_code=2)
    try:
        value = parse(BANDWIDTH, bandwidth)
    except ValueError as error:
        raise Failure(f"--link {text}: {error}", exit_code=2) from error
    if value == 0:
        raise Failure(
            f"--link {text}: bandwidth must be greater than zero",
            "remove a node with --without NODE instead",
            exit_code=2,
        )
    figure = Estimate(value, DEFAULT_SPREAD * value, Basis.DECLARED, "--link")
    changed = {**snapshot.observations.bandwidth, (a, b): figure, (b, a): figure}
    links = dict(snapshot.links)
    if FleetIndex(snapshot).link(snapshot.nodes[a], snapshot.nodes[b]) is None:
        spec = {"between": [{"node": a}, {"node": b}], "bandwidth": bandwidth, "roundTrip": _ROUND_TRIP}
        links[f"{a}-{b}"] = Link.model_validate({"metadata": {"name": f"{a}-{b}"}, "spec": spec})
    return replace(snapshot, links=links, observations=replace(snapshot.observations, bandwidth=changed))


def with_spec(snapshot: Snapshot, text: str) -> Snapshot:
    """Return the snapshot with a field of a mission's spec changed.

    text: such as `MISSION.objectives.latency.atMost=30ms`; NAMESPACE/MISSION and MISSION.spec are accepted too. Raise
    `Failure` if the mission is unknown or ambiguous, or the value is invalid.
    """
    path, separator, value = text.partition("=")
    if not separator:
        raise Failure(f"--set {text}: no value", f"write {_FORM}", exit_code=2)
    keys = [key for key in snapshot.missions if path.startswith((f"{key}.", f"{_short(key)}."))]
    if len(keys) != 1:
        raise Failure(f"--set {text}: {_describe_ambiguity(snapshot, path, keys)}", f"write {_FORM}", exit_code=2)
    key = keys[0]
    field = path.removeprefix(f"{key}.").removeprefix(f"{_short(key)}.").removeprefix("spec.")
    try:
        changed = revise(snapshot.missions[key], {field: yaml.safe_load(value)})
    except yaml.YAMLError as error:
        raise Failure(f"--set {text}: invalid YAML: {format_yaml_error(error)}", exit_code=2) from error
    except ManifestError as error:
        raise Failure("\n".join(f"--set {text}: {mistake}" for mistake in error.mistakes), exit_code=2) from error
    return replace(snapshot, missions={**snapshot.missions, key: changed})


def _short(key: str) -> str:
    return key.rpartition("/")[2]


def _describe_ambiguity(snapshot: Snapshot, path: str, found: Sequence[str]) -> str:
    """Return why `path` does not name one mission. found: keys of the missions of this name: none or several."""
    if found:
        return f"several missions have this name: {', '.join(sorted(found))}; write NAMESPACE/MISSION"
    name = path.partition(".")[0]
    candidates = sorted(snapshot.missions if "/" in name else map(_short, snapshot.missions))
    return f"unknown mission {name!r}: {suggest(name, candidates)}".rstrip(": ")
