"""Address policy for artifact downloads: public internet addresses, and the registries configured at installation.

An agent uses the network of its node and reaches what the author of a Model does not: the node itself, pods, Services,
other nodes, the cloud's metadata service. So every address is denied that is not globally reachable by IANA's
registries of special-purpose addresses (RFC 6890), unless its server is listed.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from yarl import URL

from maleo_wire.address import join_host_port

_HTTP: Final = "http://"
_ENTRY: Final = re.compile(r"(http://)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+):(?P<port>[0-9]{1,5})")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_IPV4: Final = {
    IPv4Network(network): kind
    for network, kind in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a shared"),  # RFC 6598; includes the metadata service of Alibaba Cloud, 100.100.100.200
        ("127.0.0.0/8", "a loopback"),
        ("168.63.129.16/32", "a cloud metadata"),  # Azure's host service, although the address is public
        ("169.254.0.0/16", "a link-local"),  # includes the metadata service of most clouds, 169.254.169.254
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),  # includes the metadata service of Oracle Cloud, 192.0.0.192
        ("192.0.2.0/24", "a reserved"),
        ("192.88.99.0/24", "a reserved"),
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a reserved"),
        ("198.51.100.0/24", "a reserved"),
        ("203.0.113.0/24", "a reserved"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
}
_IPV6: Final = {
    IPv6Network(network): kind
    for network, kind in (
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("fe80::/10", "a link-local"),
        ("fc00::/7", "a unique-local"),  # includes the metadata services of AWS, Google Cloud and Oracle Cloud
        ("ff00::/8", "a multicast"),
        ("2001::/23", "a reserved"),  # IETF protocol assignments, Teredo among them
        ("2001:db8::/32", "a reserved"),
        ("2002::/16", "a reserved"),  # 6to4, which embeds an IPv4 address and is deprecated (RFC 7526)
        ("3fff::/20", "a reserved"),
    )
}
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")

Network = IPv4Network | IPv6Network


class InvalidEntry(ValueError):
    """An entry of the registry or network list is malformed; the message names it and the expected form."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Address policy.

    registries: `host:port` of servers that may have any address; plain_http: those of them that use HTTP without TLS.
    denied_networks: networks that are denied in addition to those that are not globally reachable, because pods,
    Services and nodes may have public addresses.
    """

    registries: frozenset[str] = frozenset()
    plain_http: frozenset[str] = frozenset()
    denied_networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, registries: Iterable[str], denied_networks: Iterable[str] = ()) -> "AddressPolicy":
        """Parse `registries` (`host:port`, or `http://host:port` without TLS) and `denied_networks` (CIDR).

        Raise InvalidEntry for a malformed entry.
        """
        entries = [entry.strip().lower() for entry in registries if entry.strip()]
        listed = [_authority(entry) for entry in entries]
        plain = [name for name, entry in zip(listed, entries, strict=True) if entry.startswith(_HTTP)]
        return cls(
            frozenset(listed), frozenset(plain), tuple(_network(n.strip()) for n in denied_networks if n.strip())
        )

    def is_listed(self, url: URL) -> bool:
        """Return True if the server of `url` is listed, which exempts its addresses from the check."""
        port = url.port or _DEFAULT_PORTS.get(url.scheme, 0)
        return join_host_port(url.host or "", port).lower() in self.registries

    def find_denial(self, address: str) -> str:
        """Return the kind of a denied address, such as `a private`; empty if the address is allowed."""
        host = _unwrap(ip_address(address.partition("%")[0]))
        if any(host in network for network in self.denied_networks):
            return "a denied"
        table = _IPV4 if isinstance(host, IPv4Address) else _IPV6
        kind = next((kind for network, kind in table.items() if host in network), "")
        if not kind and isinstance(host, IPv6Address) and host not in _GLOBAL_UNICAST:
            return "a reserved"
        return kind or ("the node's own" if _is_own(str(host)) else "")


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address embeds (IPv4-mapped, or NAT64 by RFC 6052), else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _is_own(address: str) -> bool:
    """Return True if the address is local to this host: the kernel then selects it as its own source address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # sends nothing: connecting a datagram socket only looks up the route
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False  # there is no route


def _authority(entry: str) -> str:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise InvalidEntry(f"invalid registry {entry!r}: use host:port, or http://host:port for a registry without TLS")
    return join_host_port(URL(f"https://{match['host']}").host or "", match["port"])  # normalises IPv6 addresses


def _network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise InvalidEntry(f"invalid network {entry!r}: use CIDR notation, such as 2001:db8::/48") from error
