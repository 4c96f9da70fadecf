"""Sets of boundaries as bits: 64 to a word, so that a step is taken from all of them at once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_operator.planning.amount import Mask

Bits = NDArray[np.uint64]
"""(..., W)"""
_BYTE: Final = 8


def pack(table: Mask) -> Bits:
    """(..., B) of truths as (..., W) of bits."""
    bits = np.packbits(table, axis=-1, bitorder="little")
    wide = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // _BYTE) * _BYTE), dtype=np.uint8)
    wide[..., : bits.shape[-1]] = bits
    return wide.view(np.uint64)


def unpack(bits: Bits, boundaries: int) -> Mask:
    """(..., W) of bits as (..., B) of truths."""
    pieces = np.ascontiguousarray(bits).view(np.uint8)
    return np.unpackbits(pieces, axis=-1, count=boundaries, bitorder="little").astype(bool)


def has(bits: Bits, boundary: int) -> Mask:
    """(...) whether the boundary is among the bits."""
    pieces = np.ascontiguousarray(bits).view(np.uint8)
    return np.array(pieces[..., boundary // _BYTE] >> (boundary % _BYTE) & 1, dtype=bool)


def tabulate(steps: Mask) -> Bits:
    """(B, B) of possible steps as (B/8, 256, W): where steps lead from each set of eight boundaries."""
    chunks = -(-steps.shape[0] // _BYTE)
    ends = np.zeros((chunks * _BYTE, steps.shape[1]), dtype=bool)
    ends[: steps.shape[0]] = steps
    packed = pack(ends).reshape(chunks, _BYTE, -1)
    table = np.zeros((chunks, 1, packed.shape[-1]), dtype=np.uint64)
    for bit in range(_BYTE):
        table = np.concatenate([table, table | packed[:, bit, None]], axis=1)
    return table


def spread(starts: Bits, table: Bits) -> Bits:
    """From (rows, W) to all that a step of the table leads to."""
    pieces, ends = np.ascontiguousarray(starts).view(np.uint8), np.zeros_like(starts)
    for chunk in range(table.shape[0]):
        ends |= table[chunk, pieces[:, chunk]]
    return ends
