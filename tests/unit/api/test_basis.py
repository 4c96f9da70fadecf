"""Of conflicting values the one with the strongest basis counts."""

from typing import NamedTuple

import pytest

from maleo_api.basis import BASIS_RANK, strongest
from maleo_api.meta import Basis


class Row(NamedTuple):
    name: str
    basis: Basis


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([], None),
        ([Row("a", Basis.CLAIMED)], "a"),
        ([Row("a", Basis.CLAIMED), Row("b", Basis.MEASURED)], "b"),
        ([Row("a", Basis.MEASURED), Row("b", Basis.MEASURED)], "a"),
        ([Row("a", Basis.UNKNOWN), Row("b", Basis.CLAIMED)], "b"),
    ],
)
def test_strongest__returns_the_first_row_with_the_strongest_basis(rows: list[Row], want: str | None) -> None:
    found = strongest(rows)
    assert (found and found.name) == want


def test_basis_rank__orders_every_basis() -> None:
    assert sorted(BASIS_RANK, key=BASIS_RANK.__getitem__) == list(Basis)
    assert BASIS_RANK[Basis.MEASURED] < BASIS_RANK[Basis.MODELLED] < BASIS_RANK[Basis.UNKNOWN]
