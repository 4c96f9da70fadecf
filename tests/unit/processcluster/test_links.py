"""Links: when data has been carried, and which links are interrupted."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_processcluster.links import Link, Links

KIB = 1024
BURST = 16 * KIB


def test_link_without_limit__carries_everything_at_once() -> None:
    link = Link()
    assert [link.send(size, now=5.0) for size in (1, 10**9, 0)] == [5.0, 5.0, 5.0]
    assert not link.limited


def test_burst__passes_at_once_and_the_rest_at_the_bandwidth() -> None:
    link = Link(bandwidth=1000.0)
    assert link.send(BURST, now=100.0) == 100.0
    assert link.send(500, now=100.0) == pytest.approx(100.5)
    assert link.send(1000, now=100.0) == pytest.approx(101.5)
    assert link.limited


def test_end_of_a_connection__is_sent_behind_its_data() -> None:
    link = Link(bandwidth=1000.0)
    link.send(BURST + 2000, now=10.0)
    assert link.send(0, now=10.5) == pytest.approx(12.0)


def test_pause__allows_only_as_much_more_at_once_as_has_become_free() -> None:
    link = Link(bandwidth=1000.0)
    link.send(BURST, now=100.0)
    assert link.send(2000, now=102.0) == pytest.approx(102.0)
    assert link.send(1000, now=102.0) == pytest.approx(103.0)


def test_long_pause__allows_no_more_than_one_burst() -> None:
    link = Link(bandwidth=1000.0)
    link.send(BURST, now=100.0)
    assert link.send(BURST + 1000, now=1e6) == pytest.approx(1e6 + 1.0)


def test_limit__starts_anew() -> None:
    link = Link(bandwidth=10.0)
    link.send(100 * KIB, now=1.0)
    link.limit(1000.0, 0.25)
    assert (link.bandwidth, link.delay_s) == (1000.0, 0.25)
    assert link.send(BURST + 500, now=2.0) == pytest.approx(2.5)


async def test_limit__wakes_what_waits_for_the_link() -> None:
    """A connection that a slow link would stop for minutes goes on when the limit is removed."""
    link = Link(bandwidth=1.0)
    waiting = asyncio.create_task(link.sleep_until(asyncio.get_running_loop().time() + 3600))
    await asyncio.sleep(0)
    assert not waiting.done()
    link.limit(float("inf"), 0.0)
    await asyncio.wait_for(waiting, 10)


async def test_sleep__ends_at_its_time() -> None:
    loop, link = asyncio.get_running_loop(), Link()
    at = loop.time() + 0.02
    await link.sleep_until(at)
    assert loop.time() >= at - 1e-3
    await link.sleep_until(at - 1)


@pytest.mark.parametrize(
    ("bandwidth", "chunk"),
    [
        (float("inf"), 256 * KIB),
        (1e9, 256 * KIB),
        (1e6, 10_000),
        (150_000.0, 1500),
        (10.0, 1500),
    ],
)
def test_chunk__is_what_passes_in_10_ms_within_bounds(bandwidth: float, chunk: int) -> None:
    assert Link(bandwidth=bandwidth).chunk == chunk


def test_delay_alone__is_a_limit_of_the_link() -> None:
    assert Link(delay_s=0.1).limited


@given(
    bandwidth=st.floats(10.0, 1e9),
    sends=st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(0, 256 * KIB)), min_size=1, max_size=40),
)
def test_total_of_any_period__is_within_bandwidth_burst_and_one_chunk(
    bandwidth: float, sends: list[tuple[float, int]]
) -> None:
    """sends: pause before the chunk, and its size up to the largest; connections do not wait for each other."""
    link, now, done = Link(bandwidth=bandwidth), 0.0, []
    for pause_s, wanted in sends:
        now += pause_s
        size = min(wanted, link.chunk)
        done.append((link.send(size, now), size))
        assert done[-1][0] >= now
    assert done == sorted(done, key=lambda row: row[0]), "a link keeps the order"
    for first, (start, _) in enumerate(done):
        total = 0
        for end, size in done[first:]:
            total += size
            allowed = bandwidth * (end - start) + BURST + link.chunk
            assert total <= allowed * (1 + 1e-9) + 1e-6 * bandwidth


# ---------------------------------------------------------------------------------------------------- all links


def reached(links: Links, *pairs: tuple[int, int]) -> list[bool]:
    return [links.get(*pair).connected.is_set() for pair in pairs]


def test_link__is_one_for_each_direction() -> None:
    links = Links()
    assert links.get(1, 2) is links.get(1, 2)
    assert links.get(1, 2) is not links.get(2, 1)


def test_limited_pair__is_limited_in_both_directions_alone() -> None:
    links = Links()
    links.limit(1, 2, bandwidth=1e6, delay_s=0.1)
    assert [links.get(*pair).limited for pair in ((1, 2), (2, 1), (1, 3), (0, 1), (1, 1))] == [True, True, *[False] * 3]
    links.unlimit()
    assert not links.get(1, 2).limited
    assert not links.get(2, 1).limited


def test_interrupted_node__reaches_itself_alone() -> None:
    links = Links()
    reached(links, (1, 2), (2, 1), (0, 1), (1, 1))
    links.interrupt(1)
    assert reached(links, (1, 2), (2, 1), (0, 1), (1, 0), (1, 1)) == [False, False, False, False, True]
    assert reached(links, (2, 3), (0, 2), (2, 2)) == [True, True, True]
    links.restore(1)
    assert reached(links, (1, 2), (2, 1), (0, 1), (1, 0), (1, 1)) == [True] * 5


def test_link_that_is_first_used_during_an_interruption__is_interrupted() -> None:
    links = Links()
    links.interrupt(1)
    assert reached(links, (1, 5), (5, 1), (1, 1)) == [False, False, True]


def test_link_between_two_interrupted_nodes__needs_both_restored() -> None:
    links = Links()
    links.interrupt(1)
    links.interrupt(2)
    links.restore(1)
    assert reached(links, (1, 2), (1, 3)) == [False, True]
    links.restore(2)
    links.restore(2)
    assert reached(links, (1, 2)) == [True]


def test_limit__stays_through_an_interruption() -> None:
    links = Links()
    links.limit(1, 2, bandwidth=1e6, delay_s=0.0)
    links.interrupt(1)
    links.restore(1)
    assert links.get(1, 2).bandwidth == 1e6
