"""Addresses of a cluster of process nodes. Pure.

Nodes and pods have ordinary addresses in the API, because the API server refuses loopback addresses in endpoints. No
interface has them. Each is reached at an address in 127.0.0.0/8, where every user may listen: the network process
listens at the outer address, limits the link, and forwards to the inner address, where the program listens. Services
and the API server are reached at loopback addresses, which the API server accepts as cluster IPs.

With block 77: node 2 is 172.30.99.12 (outer 127.77.2.1, inner 127.77.102.1), its pods are 10.244.2.2 and following
(outer 127.77.2.2, inner 127.77.102.2), Services have addresses from 127.77.192.0/18.
"""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Final

NODES: Final = IPv4Network("172.30.99.0/24")
PODS: Final = IPv4Network("10.244.0.0/16")
BLOCKS: Final = range(64, 120)
MAX_PODS: Final = 250
"""Pods of a node, at most."""
_FIRST_NODE: Final = 10
_FIRST_POD: Final = 2
_INNER: Final = 100
_MAX_NODES: Final = 50


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Address plan of one cluster. block: second byte of its loopback addresses, in BLOCKS."""

    block: int

    @property
    def gateway(self) -> str:
        """Return the address at which nodes and this machine reach the API server and the registry."""
        return f"127.{self.block}.0.1"

    @property
    def services(self) -> str:
        """Return the range of cluster IPs in CIDR notation."""
        return f"127.{self.block}.192.0/18"

    def outer(self, address: str) -> str:
        """Return the loopback address at which a node or pod is reached; any other address unchanged."""
        found = _locate(address)
        return address if found is None else f"127.{self.block}.{found[0]}.{found[1]}"

    def inner(self, address: str) -> str:
        """Return the loopback address at which the programs of a node or pod listen. address: of a node or pod."""
        found = _locate(address)
        assert found is not None, "an address of a node or pod"
        return f"127.{self.block}.{_INNER + found[0]}.{found[1]}"

    def node_at(self, address: str) -> int:
        """Return the number of the node that an outer address belongs to, 0 for any other address."""
        parts = address.split(".")
        is_node = parts[:2] == ["127", str(self.block)] and 0 < int(parts[2]) <= _MAX_NODES
        return int(parts[2]) if is_node else 0


def node_address(number: int) -> str:
    """Return the address of a node. number: from 1."""
    return str(NODES[_FIRST_NODE + number])


def pod_addresses(number: int) -> list[str]:
    """Return the addresses of the pods of a node. number: from 1."""
    first = PODS[0] + (number << 8) + _FIRST_POD
    return [str(first + offset) for offset in range(MAX_PODS)]


def node_of(address: str) -> int:
    """Return the number of the node that has the address or whose pod has it; 0 for any other address."""
    found = _locate(address)
    return found[0] if found is not None else 0


def _locate(address: str) -> tuple[int, int] | None:
    """Return node number and last byte of the loopback address of a node or pod; None for another address."""
    try:
        ip = IPv4Address(address)
    except AddressValueError:
        return None
    last = int(ip) & 0xFF
    if ip in NODES and 0 < last - _FIRST_NODE <= _MAX_NODES:
        return last - _FIRST_NODE, 1
    node = (int(ip) >> 8) & 0xFF
    if ip in PODS and 0 < node <= _MAX_NODES and _FIRST_POD <= last < _FIRST_POD + MAX_PODS:
        return node, last
    return None
