"""Addresses of nodes and pods, and the loopback addresses at which they are reached."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_processcluster.addresses import BLOCKS, AddressPlan, node_address, node_of, pod_addresses

PLAN = AddressPlan(77)
NUMBERS = range(1, 51)
ADDRESSES = {number: [node_address(number), *pod_addresses(number)] for number in NUMBERS}
"""Number of a node -> its address and those of its pods."""

addresses = st.sampled_from(NUMBERS).flatmap(lambda number: st.sampled_from(ADDRESSES[number]))
blocks = st.sampled_from(BLOCKS)


@pytest.mark.parametrize(
    ("address", "number", "outer", "inner"),
    [
        ("172.30.99.11", 1, "127.77.1.1", "127.77.101.1"),
        ("172.30.99.12", 2, "127.77.2.1", "127.77.102.1"),
        ("172.30.99.60", 50, "127.77.50.1", "127.77.150.1"),
        ("10.244.2.2", 2, "127.77.2.2", "127.77.102.2"),
        ("10.244.50.251", 50, "127.77.50.251", "127.77.150.251"),
    ],
)
def test_node_or_pod__is_reached_at_the_outer_and_listens_at_the_inner_address(
    address: str, number: int, outer: str, inner: str
) -> None:
    assert (PLAN.outer(address), PLAN.inner(address)) == (outer, inner)
    assert (node_of(address), PLAN.node_at(outer)) == (number, number)


def test_addresses_of_a_node__are_one_of_its_own_and_those_of_its_pods() -> None:
    assert node_address(3) == "172.30.99.13"
    assert pod_addresses(3)[:2] == ["10.244.3.2", "10.244.3.3"]
    assert (len(pod_addresses(3)), pod_addresses(3)[-1]) == (250, "10.244.3.251")


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "example.org",
        "",
        "::1",
        "fd00::1",
        "10.0.0.1",
        "127.0.0.1",
        "127.77.1.1",
        "192.168.1.10",
        "172.30.99.10",
        "172.30.99.61",
        "10.244.0.2",
        "10.244.1.0",
        "10.244.1.1",
        "10.244.1.252",
        "10.244.51.2",
        "10.244.101.2",
        "10.244.255.2",
        "10.245.1.2",
    ],
)
def test_address_of_something_else__stays_as_it_is_and_has_no_node(address: str) -> None:
    assert PLAN.outer(address) == address
    assert node_of(address) == 0


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.77.0.1", "127.77.101.1", "127.77.51.1", "127.78.1.1", "10.0.0.1"]
)
def test_client_that_is_no_node__has_number_0(address: str) -> None:
    assert PLAN.node_at(address) == 0


@given(block=blocks, one=addresses, other=addresses)
def test_loopback_addresses__never_collide(block: int, one: str, other: str) -> None:
    plan = AddressPlan(block)
    assert plan.outer(one) != plan.inner(other)
    assert (plan.outer(one) == plan.outer(other)) == (one == other) == (plan.inner(one) == plan.inner(other))


@given(block=blocks, address=addresses)
def test_client_at_an_outer_address__is_of_the_node_that_has_the_address(block: int, address: str) -> None:
    plan = AddressPlan(block)
    assert plan.node_at(plan.outer(address)) == node_of(address) > 0
    assert AddressPlan(block + 1).node_at(plan.outer(address)) == 0


@given(block=blocks, address=addresses)
def test_loopback_addresses__are_of_the_block_and_neither_gateway_nor_services(block: int, address: str) -> None:
    plan = AddressPlan(block)
    for found in (plan.outer(address), plan.inner(address)):
        assert IPv4Address(found) in IPv4Network(f"127.{block}.0.0/16")
        assert IPv4Address(found) not in IPv4Network(plan.services)
        assert found != plan.gateway


def test_all_loopback_addresses_of_a_cluster__are_distinct() -> None:
    everything = [address for group in ADDRESSES.values() for address in group]
    reached = [way(address) for address in everything for way in (PLAN.outer, PLAN.inner)]
    assert len(set(reached)) == len(reached)
