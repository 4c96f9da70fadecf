"""Strength of figures by their basis: of conflicting figures the strongest counts."""

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from maleo_api.meta import Basis

STRENGTH: Final = {basis: rank for rank, basis in enumerate(Basis)}
"""Rank of each basis; a smaller rank is stronger."""


class _Row(Protocol):
    @property
    def basis(self) -> Basis: ...


Row = TypeVar("Row", bound=_Row)


def strongest(rows: Iterable[Row]) -> Row | None:
    """Return the row of the strongest basis, the first of several; None where there is none."""
    return min(rows, key=lambda row: STRENGTH[row.basis], default=None)
