"""The fast checksum against its definition, at lengths around all of its boundaries."""

import zlib
from types import ModuleType

import numpy as np
import pytest

from bertrt.export.checkpoints.formats import crc32c as module
from bertrt.export.checkpoints.formats.crc32c import crc32c, masked

# RFC 3720, B.4.
KNOWN = {
    b"123456789": 0xE3069283,
    b"\0" * 32: 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    b"": 0,
}


@pytest.mark.parametrize("data", KNOWN)
def test_known_sums(data: bytes) -> None:
    assert crc32c(data) == KNOWN[data]


def test_every_length(bundles: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)
    monkeypatch.setattr(module, "_PIECE", 4)
    data = np.random.default_rng(0).bytes(300)
    for length in range(len(data)):
        assert crc32c(data[:length]) == bundles.crc32c(data[:length]), length
        assert masked(crc32c(data[:length])) == bundles.masked(data[:length])


def test_more_than_a_chunk(bundles: ModuleType) -> None:
    data = np.random.default_rng(1).bytes((1 << 21) + 12345)
    assert crc32c(memoryview(data)) == bundles.crc32c(data)
    assert crc32c(data) != zlib.crc32(data)
