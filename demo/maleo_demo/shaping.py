"""The speed of a link between two nodes that are containers, by Linux traffic control inside them.

Both ends queue what they send to the other: to its address and to its pods. A node has one shaped link at a time.
"""

from typing import Final

from maleo_api.quantities import BANDWIDTH, parse
from maleo_demo.programs import Unavailable, run, succeeds

_FAST: Final = "40gbit"


def can_shape(node: str) -> bool:
    """Whether the kernel has what shaping needs (sch_htb, cls_u32): tried on the node's loopback, then taken back."""
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
    """Send to `destinations` (address ranges) with `bandwidth` at most; what was set before is replaced."""
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
            raise Unavailable(f"the link of {node} cannot be slowed: {error}") from error


def reset(node: str) -> None:
    """Full speed on every link of the node."""
    succeeds(*_tc(node, "qdisc del dev eth0 root"))


def _tc(node: str, words: str) -> tuple[str, ...]:
    return "docker", "exec", node, "tc", *words.split()
