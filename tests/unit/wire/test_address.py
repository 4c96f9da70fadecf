"""Addresses of both families, as URLs spell them."""

import pytest

from maleo_wire.address import bracket_host, join_host_port


@pytest.mark.parametrize(
    ("host", "want"),
    [("10.0.0.1", "10.0.0.1:8080"), ("fd00::1", "[fd00::1]:8080"), ("[fd00::1]", "[fd00::1]:8080"), ("a", "a:8080")],
)
def test_host_and_port__are_joined_as_in_urls(host: str, want: str) -> None:
    assert join_host_port(host, 8080) == want


@pytest.mark.parametrize(
    ("expanded", "want"),
    [("http://10.0.0.1:9808", "http://10.0.0.1:9808"), ("http://fd00::1:9808", "http://[fd00::1]:9808")],
)
def test_address_of_the_agent__is_right_on_ipv6_nodes(expanded: str, want: str) -> None:
    assert bracket_host(expanded) == want
