"""Bandwidth limits between container nodes, by Linux traffic control (HTB) inside them.

Both ends limit their traffic to the other node and its pods. A node has at most one limited link.
"""

from typing import Final

from maleo_api.quantities import BANDWIDTH, parse
from maleo_demo.programs import Unavailable, run, succeeds

_FAST: Final = "40gbit"


def can_shape(node: str) -> bool:
    """Return True if the kernel supports shaping (sch_htb, cls_u32): tried on the node's loopback, then undone."""
    commands = (
        "qdisc add dev lo root handle 1: htb default 1",
        "class add dev lo parent 1: classid 1:1 htb rate 1gbit",
        "filter add dev lo parent 1: protocol ip prio 1 u32 match ip dst 192.0.2.1/32 flowid 1:1",
    )
    try:
        return all(succeeds(*_tc(node, words)) for words in commands)
    finally:
        succeeds(*_tc(node, "qdisc del dev lo root"))


def limit(node: str, destinations: tuple[str, ...], bandwidth: str) -> None:
    """Limit traffic to `destinations` (CIDR) to `bandwidth`, replacing earlier limits. Raise Unavailable on failure."""
    reset(node)
    bits = round(parse(BANDWIDTH, bandwidth) * 8)
    commands = [
        "qdisc add dev eth0 root handle 1: htb default 1",
        f"class add dev eth0 parent 1: classid 1:1 htb rate {_FAST} quantum 60000",
        f"class add dev eth0 parent 1: classid 1:2 htb rate {bits}bit burst 16k",
    ]
    for priority, destination in enumerate(destinations, start=1):
        rule = f"filter add dev eth0 parent 1: protocol ip prio {priority} u32 match ip dst {destination}"
        commands.append(f"{rule} flowid 1:2")
    for words in commands:
        try:
            run(*_tc(node, words))
        except Unavailable as error:
            raise Unavailable(f"cannot limit the links of {node}: {error}") from error


def reset(node: str) -> None:
    """Remove the bandwidth limits of the node."""
    succeeds(*_tc(node, "qdisc del dev eth0 root"))


def _tc(node: str, words: str) -> tuple[str, ...]:
    return "docker", "exec", node, "tc", *words.split()
