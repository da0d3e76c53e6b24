"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, at hundreds of megabytes a second.

The remainder of two concatenated texts follows from theirs: `crc(a + b) = zeros(crc(a), len(b)) ^
crc(b)`, where `zeros` appends zero bytes and is linear over bits. So numpy works on thousands of
pieces at once, and joins their remainders pairwise.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["crc32c", "masked"]

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
# Powers of two: the bytes that are processed at once, and the words of a piece.
_CHUNK = 1 << 21
_PIECE = 256


def crc32c(data: bytes | memoryview) -> int:
    """Compute the CRC-32C of bytes, as in RFC 3720."""
    view = np.frombuffer(data, np.uint8)
    # Leading zero bytes do not change a remainder that starts from zero, so they pad the first
    # chunk.
    first = len(view) % _CHUNK
    width = max(4, 1 << (first - 1).bit_length()) if first else 4
    padded = np.zeros(width, np.uint8)
    padded[width - first :] = view[:first]
    crc = _remainder(padded)
    for start in range(first, len(view), _CHUNK):
        crc = _zeros(crc, _CHUNK.bit_length() - 1) ^ _remainder(view[start : start + _CHUNK])
    # The standard starts from ones: add their remainder after the whole text.
    ones = np.full(1, 0xFFFFFFFF, np.uint32)
    for power in range(len(view).bit_length()):
        if len(view) >> power & 1:
            ones = _zeros(ones, power)
    return int((crc ^ ones)[0]) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Mask a checksum as TensorFlow does before it stores it with the data."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(data: NDArray[np.uint8]) -> Words:
    """Return the remainder [1] of a text of 2^k bytes, k >= 2, starting from zero."""
    words = data.view("<u4")
    pieces = words.reshape(-1, min(_PIECE, len(words)))
    low, high = _halves()
    crc = np.zeros(len(pieces), np.uint32)
    for column in np.ascontiguousarray(pieces.T):
        crc ^= column
        crc = low.take(crc & 0xFFFF) ^ high.take(crc >> 16)
    power = (4 * pieces.shape[1]).bit_length() - 1
    while len(crc) > 1:
        crc = _zeros(crc[::2], power) ^ crc[1::2]
        power += 1
    return crc


def _zeros(crc: Words, power: int) -> Words:
    """Append 2^power zero bytes to texts with these remainders."""
    table = _table(power)
    joined: Words = (
        table[0][crc & 255]
        ^ table[1][crc >> 8 & 255]
        ^ table[2][crc >> 16 & 255]
        ^ table[3][crc >> 24]
    )
    return joined


@cache
def _table(power: int) -> Words:
    """Return what each byte of a remainder becomes after 2^power zero bytes, [4, 256]."""
    bits = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    if power == 0:
        for _ in range(8):
            bits = bits >> 1 ^ np.where(bits & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    else:
        bits = _zeros(_zeros(bits, power - 1), power - 1)
    table = np.zeros((4, 256), np.uint32)
    for byte in range(4):
        for bit in range(8):
            has = np.arange(256) >> bit & 1 == 1
            table[byte, has] ^= bits[8 * byte + bit]
    return table


@cache
def _halves() -> tuple[Words, Words]:
    """Return what a remainder's low and high 16 bits become after 4 zero bytes, [65536] each."""
    half = np.arange(65536, dtype=np.uint32)
    return _zeros(half, 2), _zeros(half << np.uint32(16), 2)
