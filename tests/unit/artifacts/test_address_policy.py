"""Addresses from which artefacts may be fetched: networks, and the list of registries."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from maleo_artifacts.address_policy import AddressPolicy, InvalidEntry

_DENIED = [
    ("0.0.0.0", "an unspecified"),
    ("0.1.2.3", "an unspecified"),
    ("10.96.0.1", "a private"),
    ("10.244.3.7", "a private"),
    ("100.64.0.1", "a shared"),
    ("100.100.100.200", "a shared"),  # metadata: Alibaba Cloud
    ("127.0.0.1", "a loopback"),
    ("127.255.255.254", "a loopback"),
    ("168.63.129.16", "a cloud metadata"),  # Azure
    ("169.254.169.254", "a link-local"),  # metadata: AWS, Google Cloud, Azure, OpenStack, DigitalOcean, Hetzner
    ("169.254.170.2", "a link-local"),  # credentials: AWS ECS
    ("169.254.0.23", "a link-local"),  # metadata: Tencent Cloud
    ("172.16.0.1", "a private"),
    ("172.31.255.255", "a private"),
    ("192.0.0.192", "a reserved"),  # metadata: Oracle Cloud
    ("192.0.2.1", "a reserved"),
    ("192.88.99.1", "a reserved"),
    ("192.168.1.1", "a private"),
    ("198.18.0.1", "a reserved"),
    ("198.51.100.1", "a reserved"),
    ("203.0.113.1", "a reserved"),
    ("224.0.0.1", "a multicast"),
    ("239.255.255.250", "a multicast"),
    ("240.0.0.1", "a reserved"),
    ("255.255.255.255", "a reserved"),
    ("::", "an unspecified"),
    ("::1", "a loopback"),
    ("::7f00:1", "a reserved"),  # IPv4-compatible
    ("::ffff:127.0.0.1", "a loopback"),
    ("::ffff:169.254.169.254", "a link-local"),
    ("::ffff:0:127.0.0.1", "a reserved"),  # IPv4-translated
    ("64:ff9b::7f00:1", "a loopback"),  # NAT64
    ("64:ff9b::a9fe:a9fe", "a link-local"),
    ("64:ff9b::a00:1", "a private"),
    ("64:ff9b:1::808:808", "a reserved"),  # NAT64 of a site's own
    ("100::1", "a reserved"),
    ("2001::1", "a reserved"),  # Teredo
    ("2001:db8::1", "a reserved"),
    ("2002:7f00:1::", "a reserved"),  # 6to4
    ("2002:808:808::1", "a reserved"),
    ("3fff::1", "a reserved"),
    ("5f00::1", "a reserved"),
    ("fc00::1", "a unique-local"),
    ("fd00:ec2::254", "a unique-local"),  # metadata: AWS
    ("fd20:ce::254", "a unique-local"),  # metadata: Google Cloud
    ("fd00:c1::a9fe:a9fe", "a unique-local"),  # metadata: Oracle Cloud
    ("fe80::1", "a link-local"),
    ("fe80::1%eth0", "a link-local"),
    ("fec0::1", "a reserved"),
    ("ff02::1", "a multicast"),
]
_ALLOWED = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "168.63.129.17", "172.15.255.255",
    "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2001:4860::8888",
    "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize(("address", "kind"), _DENIED)
def test_address_that_is_not_public__is_denied(address: str, kind: str) -> None:
    assert AddressPolicy().find_denial(address) == kind


@pytest.mark.parametrize("address", _ALLOWED)
def test_public_address__is_allowed(address: str) -> None:
    assert not AddressPolicy().find_denial(address)


@given(st.ip_addresses(v=4))
def test_ipv4_address_in_ipv6_form__is_judged_as_the_ipv4_address(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [(0xFFFF << 32) | number, (0x64FF9B << 96) | number]
    kinds = {AddressPolicy().find_denial(str(ipaddress.IPv6Address(form))) for form in forms}
    assert kinds == {AddressPolicy().find_denial(str(address))}


@given(st.ip_addresses())
def test_address_that_is_not_global__is_denied(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Compare with the tables of the standard library."""
    if not address.is_global or address.is_multicast:
        assert AddressPolicy().find_denial(str(address))


def test_own_address_of_the_node__is_denied_even_if_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe(socket.socket):
        """Socket whose own address is always 8.8.8.8."""

        def connect(self, _address: object) -> None:
            return

        def getsockname(self) -> tuple[str, int]:
            return ("8.8.8.8", 1)

    monkeypatch.setattr("maleo_artifacts.address_policy.socket.socket", Probe)
    assert AddressPolicy().find_denial("8.8.8.8") == "the node's own"
    assert not AddressPolicy().find_denial("8.8.4.4")


def test_networks_of_pods_and_services__can_be_denied_although_they_are_public() -> None:
    sources = AddressPolicy.parse([], denied_networks=["2606:4700::/32", " 1.1.1.0/24", ""])
    assert [sources.find_denial(a) for a in ("2606:4700::1", "1.1.1.1", "::ffff:1.1.1.1")] == ["a denied"] * 3
    assert not sources.find_denial("1.1.2.1")


@pytest.mark.parametrize(
    ("listed", "url", "is_listed"),
    [
        ("10.0.0.5:5000", "http://10.0.0.5:5000/v2/x", True),
        ("10.0.0.5:5000", "http://10.0.0.5:10250/v2/x", False),
        ("10.0.0.5:5000", "http://10.0.0.50:5000/v2/x", False),
        ("registry.example:443", "https://registry.example/v2/x", True),
        ("registry.example:443", "http://registry.example/v2/x", False),
        ("registry.example:443", "https://REGISTRY.example/v2/x", True),
        ("http://registry.example:80", "http://registry.example/v2/x", True),
        ("registry.example:443", "https://registry.example.evil/v2/x", False),
        ("registry.example:443", "https://evil@registry.example:8443/v2/x", False),
        ("[fd00::5]:5000", "http://[fd00::5]:5000/v2/x", True),
        ("[fd00::5]:5000", "http://[fd00:0:0::5]:5000/v2/x", True),
    ],
)
def test_registry__is_listed_by_host_and_port(listed: str, url: str, *, is_listed: bool) -> None:
    assert AddressPolicy.parse([listed]).is_listed(URL(url)) is is_listed


def test_registry_with_the_http_scheme__is_accessed_without_tls() -> None:
    sources = AddressPolicy.parse(["http://Registry.Example:5000", "registry.example:443"])
    assert sources.plain_http == {"registry.example:5000"}


@pytest.mark.parametrize(
    "entry",
    ["registry", "registry.example/models:5000", "https://registry:443", "user@registry:5000", "oci://a:1", ":5000"],
)
def test_invalid_registry__is_rejected_with_the_expected_form(entry: str) -> None:
    with pytest.raises(InvalidEntry, match="use host:port"):
        AddressPolicy.parse([entry])


def test_invalid_network__is_rejected_with_the_expected_form() -> None:
    with pytest.raises(InvalidEntry, match=r"invalid network '10\.0\.0\.1/8': use CIDR"):
        AddressPolicy.parse([], denied_networks=["10.0.0.1/8"])
