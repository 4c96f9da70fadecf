"""Network of the cluster: bridge, veth pairs and routes; bandwidth limits and partitions between nodes."""

import re
import subprocess
from collections.abc import Iterable
from typing import Final

from maleo_api.quantities import BANDWIDTH, parse
from maleo_devcluster.control_plane import SERVICES
from maleo_devcluster.topology import BRIDGE, BRIDGE_ADDRESS, Node

_FAST: Final = "40gbit"


class CommandFailed(Exception):
    """A system command failed; the message contains the command and its output."""


def run(*command: str) -> str:
    """Run a command and return its output. Raise CommandFailed with its error text."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _attempt(*command: str) -> None:
    """Run a clean-up command and ignore its failure: the object may not exist."""
    subprocess.run(command, capture_output=True, check=False)


def check_free(nodes: Iterable[Node]) -> None:
    """Raise CommandFailed if another interface uses addresses of the cluster, or a node's interface exists."""
    routes = run("ip", "-4", "route", "show")
    foreign = [
        line
        for line in routes.splitlines()
        if re.match(r"(172\.30\.99\.|10\.244\.|10\.96\.)", line) and BRIDGE not in line
    ]
    if foreign:
        raise CommandFailed(
            f"addresses of the devcluster are in use on this machine: remove the route `{foreign[0].strip()}`"
        )
    for node in nodes:
        if f"dev {node.veth} " in routes:
            raise CommandFailed(f"interface {node.veth} is in use: rename or remove it")


def make_bridge() -> None:
    """Create the bridge that joins the nodes and the host."""
    _attempt("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "replace", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def make_node_network(node: Node, others: Iterable[Node]) -> None:
    """Create the node's network namespace with a veth pair to the bridge, and routes to the pods of other nodes."""
    run("ip", "netns", "add", node.name)
    run("ip", "link", "add", node.veth, "type", "veth", "peer", "name", "eth0", "netns", node.name)
    run("ip", "link", "set", node.veth, "master", BRIDGE, "up")
    run("ip", "-n", node.name, "addr", "replace", f"{node.address}/24", "dev", "eth0")
    run("ip", "-n", node.name, "link", "set", "eth0", "up")
    run("ip", "-n", node.name, "link", "set", "lo", "up")
    run("ip", "-n", node.name, "route", "replace", "default", "via", BRIDGE_ADDRESS)
    run("nsenter", f"--net=/run/netns/{node.name}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run("ip", "route", "replace", node.pods, "via", node.address)
    for other in others:
        run("ip", "-n", node.name, "route", "replace", other.pods, "via", other.address)


def route_services(via: Node) -> None:
    """Route ClusterIPs from the host through the kube-proxy of node `via`."""
    run("ip", "route", "replace", SERVICES, "via", via.address)


def list_processes(node: Node) -> list[int]:
    """Return the ids of all processes in the node's network namespace, recorded or not."""
    done = subprocess.run(["ip", "netns", "pids", node.name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def remove(nodes: Iterable[Node]) -> None:
    """Remove the bridge, the namespaces of the nodes, and the routes to them."""
    _attempt("ip", "route", "del", SERVICES)
    for node in nodes:
        _attempt("ip", "route", "del", node.pods)
        _attempt("ip", "netns", "del", node.name)
        _attempt("ip", "link", "del", node.veth)
    _attempt("ip", "link", "del", BRIDGE)


def shape(a: Node, b: Node, bandwidth: str) -> None:
    """Limit both directions between two running nodes to `bandwidth` (such as 4Mbit/s); other links stay fast."""
    bits = round(parse(BANDWIDTH, bandwidth) * 8)
    for source, target in ((a, b), (b, a)):
        if "htb 1:" not in run("tc", "-n", source.name, "qdisc", "show", "dev", "eth0"):
            for command in install_shaping(source):
                run(*command)
        # u32 filters cannot be replaced: delete those of this peer first, if there are any.
        for command in remove_limit(source, target):
            _attempt(*command)
        for command in add_limit(source, target, bits):
            run(*command)


def install_shaping(source: Node) -> list[list[str]]:
    """Return the tc commands that install HTB on the sender, with a fast default class."""
    tc = ["tc", "-n", source.name]
    return [
        [*tc, *["qdisc", "replace", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"]],
        [*tc, *f"class replace dev eth0 parent 1: classid 1:1 htb rate {_FAST} quantum 60000".split()],
    ]


def add_limit(source: Node, target: Node, bits: int) -> list[list[str]]:
    """Return the tc commands that add the HTB class of a peer, matched by its address and its pod range."""
    tc, leaf = ["tc", "-n", source.name], f"1:{10 + target.number:x}"
    return [
        [*tc, *f"class replace dev eth0 parent 1: classid {leaf} htb rate {bits}bit burst 16k".split()],
        *(
            [*tc, *f"filter add {_rule(priority)} u32 match ip dst {destination} flowid {leaf}".split()]
            for priority, destination in _rules(target)
        ),
    ]


def remove_limit(source: Node, target: Node) -> list[list[str]]:
    """Return the tc commands that remove the limit of a peer."""
    return [["tc", "-n", source.name, *f"filter del {_rule(p)}".split()] for p, _ in _rules(target)]


def _rule(priority: int) -> str:
    return f"dev eth0 parent 1: protocol ip prio {priority}"


def _rules(target: Node) -> tuple[tuple[int, str], ...]:
    return (100 + target.number, f"{target.address}/32"), (200 + target.number, target.pods)


def unshape(nodes: Iterable[Node]) -> None:
    """Remove the bandwidth limits of all links."""
    for node in nodes:
        _attempt("tc", "-n", node.name, "qdisc", "del", "dev", "eth0", "root")


def cut(node: Node) -> None:
    """Disconnect the node from the network (partition); its processes keep running."""
    run("ip", "link", "set", node.veth, "down")


def heal(node: Node) -> None:
    """Reconnect a node that `cut` disconnected."""
    run("ip", "link", "set", node.veth, "up")
