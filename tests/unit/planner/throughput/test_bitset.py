"""Bitsets of boundaries against boolean tables, for any number of boundaries around a word of 64."""

import numpy as np
import pytest

from maleo_planner.throughput.bitset import apply_step, contains, make_step_table, pack, unpack

SIZES = [1, 7, 8, 9, 63, 64, 65, 130]


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).random(shape) < 0.3


@pytest.mark.parametrize("size", SIZES)
def test_packed_table__unpacks_to_the_same_table(size: int) -> None:
    table = _random(3, size)
    bits = pack(table)
    assert bits.shape == (3, -(-size // 64))
    assert (unpack(bits, size) == table).all()


@pytest.mark.parametrize("size", SIZES)
def test_contains__tests_membership_of_a_boundary(size: int) -> None:
    table = _random(3, size)
    found = np.stack([contains(pack(table), boundary) for boundary in range(size)], axis=-1)
    assert (found == table).all()


@pytest.mark.parametrize("size", SIZES)
def test_apply_step__returns_the_union_of_the_ends_of_each_boundary(size: int) -> None:
    steps, starts = _random(size, size), _random(4, size)
    want = np.array([steps[row].any(axis=0) for row in starts])
    assert (unpack(apply_step(pack(starts), make_step_table(steps)), size) == want).all()


def test_apply_step__returns_the_empty_set_for_the_empty_set() -> None:
    steps = np.ones((70, 70), dtype=bool)
    assert not apply_step(pack(np.zeros((1, 70), dtype=bool)), make_step_table(steps)).any()
