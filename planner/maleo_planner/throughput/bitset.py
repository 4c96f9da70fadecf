"""Bitsets of boundaries, 64 per word: a step is applied to all boundaries of a set at once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from maleo_planner.types.numeric import Mask

Bitsets = NDArray[np.uint64]
"""(..., W): bitsets of W words."""
_BYTE: Final = 8


def pack(table: Mask) -> Bitsets:
    """Pack a (..., B) boolean table into (..., W) bitsets."""
    bits = np.packbits(table, axis=-1, bitorder="little")
    wide = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // _BYTE) * _BYTE), dtype=np.uint8)
    wide[..., : bits.shape[-1]] = bits
    return wide.view(np.uint64)


def unpack(bits: Bitsets, boundaries: int) -> Mask:
    """Unpack (..., W) bitsets into a (..., B) boolean table of `boundaries` columns."""
    bytes_ = np.ascontiguousarray(bits).view(np.uint8)
    return np.unpackbits(bytes_, axis=-1, count=boundaries, bitorder="little").astype(bool)


def contains(bits: Bitsets, boundary: int) -> Mask:
    """Return (...) mask of the bitsets that contain the boundary."""
    bytes_ = np.ascontiguousarray(bits).view(np.uint8)
    return np.array(bytes_[..., boundary // _BYTE] >> (boundary % _BYTE) & 1, dtype=bool)


def make_step_table(steps: Mask) -> Bitsets:
    """Return the look-up table of a (B, B) step relation: (B/8, 256, W) ends of each subset of eight boundaries."""
    chunks = -(-steps.shape[0] // _BYTE)
    ends = np.zeros((chunks * _BYTE, steps.shape[1]), dtype=bool)
    ends[: steps.shape[0]] = steps
    packed = pack(ends).reshape(chunks, _BYTE, -1)
    table = np.zeros((chunks, 1, packed.shape[-1]), dtype=np.uint64)
    for bit in range(_BYTE):
        table = np.concatenate([table, table | packed[:, bit, None]], axis=1)
    return table


def apply_step(starts: Bitsets, table: Bitsets) -> Bitsets:
    """Return the (rows, W) bitsets of boundaries that one step reaches, by B/8 look-ups in a `make_step_table`."""
    bytes_, ends = np.ascontiguousarray(starts).view(np.uint8), np.zeros_like(starts)
    for chunk in range(table.shape[0]):
        ends |= table[chunk, bytes_[:, chunk]]
    return ends
