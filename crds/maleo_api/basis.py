"""Strength of values by their basis: of conflicting values the one with the strongest basis counts."""

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from maleo_api.meta import Basis

BASIS_RANK: Final = {basis: rank for rank, basis in enumerate(Basis)}
"""Rank of each basis; a smaller rank is stronger."""


class _HasBasis(Protocol):
    @property
    def basis(self) -> Basis: ...


HasBasisT = TypeVar("HasBasisT", bound=_HasBasis)


def strongest(rows: Iterable[HasBasisT]) -> HasBasisT | None:
    """Return the row with the strongest basis, the first of several; None if there are no rows."""
    return min(rows, key=lambda row: BASIS_RANK[row.basis], default=None)
