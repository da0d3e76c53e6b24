"""Test PackedAttention against PyTorch's attention per sequence and against its reference."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.launch.configs import AttentionTiles
from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS
from bertrt.kernels.triton.block_map import BlockMaps, map_blocks

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
packed_attention = KERNELS["PackedAttention"]

# Empty sequences at the start, in the middle and at the end; one token; a block's edge and beyond.
LENGTHS = [0, 5, 1, 0, 32, 33, 16, 0]
MAX_LENGTH = max(LENGTHS)
# test_compile.py compiles these, because the interpreter takes tiles of any size.
TILES = {
    "table": None,
    "steps": AttentionTiles(16, 16, 4, 1),
    "one step": AttentionTiles(16, 64, 4, 1),
    "one block": AttentionTiles(64, 32, 4, 1),
    "long": AttentionTiles(64, 64, 4, 1),
}


def offsets_of(lengths: list[int], device: str) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)


def torch_attention(
    qkv: torch.Tensor,
    offsets: torch.Tensor,
    heads: int,
    causal: int = 0,
    bias: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute PyTorch's attention of each sequence, in qkv's dtype."""
    contexts = []
    for begin, end in pairwise(offsets.tolist()):
        tokens = qkv[begin:end].unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        mask = None
        if bias is not None and rows is not None:
            distances = rows[begin:end] - rows[begin:end, None]
            farthest = bias.shape[1] // 2
            mask = bias[:, distances.clamp(-farthest, farthest) + farthest].to(qkv.dtype)
        context = F.scaled_dot_product_attention(*tokens, mask, is_causal=bool(causal))
        contexts.append(context.transpose(0, 1).flatten(1))
    return torch.cat(contexts)


@pytest.mark.parametrize("tiles", ["table", "steps", "one step", "one block"])
@pytest.mark.parametrize("max_length", [None, MAX_LENGTH])
@pytest.mark.parametrize("causal", [0, 1])
def test_matches_attention_of_each_sequence(
    causal: int,
    max_length: int | None,
    tiles: str,
    dtype: torch.dtype,
    device: str,
    normal: Make,
    near: Callable[..., None],
) -> None:
    heads, size = 2, 32
    offsets = offsets_of(LENGTHS, device)
    total = sum(LENGTHS)
    # The buffer has rows after the last token.
    qkv = normal(total + 9, 3 * heads * size, dtype=dtype, scale=2)
    qkv[total:] = torch.nan
    settings = {"num_heads": heads, "causal": causal}
    got = packed_attention(qkv, offsets, **settings, max_length=max_length, tiles=TILES[tiles])
    assert got.dtype == dtype
    assert got.shape == (total + 9, heads * size)
    exact = torch_attention(qkv.double(), offsets, heads, causal)
    near(got[:total], exact, torch_attention(qkv, offsets, heads, causal))
    assert got[total:].isnan().all()  # not written


def with_gaps(tokens: int, device: str) -> torch.Tensor:
    """Return ascending places with gaps, as those of tokens between which some are masked."""
    places = np.random.default_rng(tokens).integers(1, 4, tokens).cumsum()
    return torch.from_numpy(places.astype(np.int32)).to(device)


@pytest.mark.parametrize("tiles", ["table", "steps", "one step", "one block"])
@pytest.mark.parametrize("farthest", [0, 7, 200])
def test_a_bias_by_distance(
    farthest: int,
    tiles: str,
    dtype: torch.dtype,
    device: str,
    normal: Make,
    near: Callable[..., None],
) -> None:
    heads, size = 3, 24
    offsets, total = offsets_of(LENGTHS, device), sum(LENGTHS)
    qkv = normal(total + 9, 3 * heads * size, dtype=dtype, scale=2)
    bias = normal(heads, 2 * farthest + 1, dtype=dtype, scale=2)
    rows = with_gaps(total + 9, device)
    settings = {"num_heads": heads, "max_length": MAX_LENGTH, "tiles": TILES[tiles]}
    got = packed_attention(qkv, offsets, bias, rows, **settings)[:total]
    exact = torch_attention(qkv.double(), offsets, heads, 0, bias, rows)
    near(got, exact, torch_attention(qkv, offsets, heads, 0, bias, rows))
    if farthest:
        without = packed_attention(qkv, offsets, **settings)[:total]
        assert (got - without).abs().max() > 0.5


@pytest.mark.parametrize("size", [8, 16, 24, 48, 64, 80, 128])
def test_head_sizes(
    size: int, dtype: torch.dtype, device: str, normal: Make, near: Callable[..., None]
) -> None:
    offsets = offsets_of([20, 3], device)
    qkv = normal(23, 3 * 3 * size, dtype=dtype)
    got = packed_attention(qkv, offsets, num_heads=3)
    near(got, torch_attention(qkv.double(), offsets, 3), torch_attention(qkv, offsets, 3))


def test_matches_the_reference(device: str, normal: Make) -> None:
    qkv, offsets = normal(sum(LENGTHS), 96, dtype=torch.float32), offsets_of(LENGTHS, device)
    bias, rows = normal(2, 17, dtype=torch.float32), with_gaps(sum(LENGTHS), device)
    for causal, options in ((0, ()), (1, ()), (0, (bias, rows))):
        inputs, settings = (qkv, offsets, *options), {"num_heads": 2, "causal": causal}
        expected = OPERATORS["PackedAttention"].reference(
            *(tensor.cpu().numpy() for tensor in inputs), **settings
        )
        got = packed_attention(*inputs, **settings)
        np.testing.assert_allclose(got.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("max_length", [None, 1030])
def test_long_sequences(
    max_length: int | None, device: str, normal: Make, near: Callable[..., None]
) -> None:
    offsets = offsets_of([1030, 7], device)
    qkv = normal(1037, 96, dtype=torch.float32)
    got = packed_attention(qkv, offsets, num_heads=1, max_length=max_length, tiles=TILES["long"])
    near(got, torch_attention(qkv.double(), offsets, 1), torch_attention(qkv, offsets, 1))


def mixed_lengths(sequences: int) -> np.ndarray:
    random = np.random.default_rng(sequences)
    lengths = random.integers(0, 4, sequences)
    lengths[random.integers(0, sequences, 2)] = random.integers(30, 60, 2)
    return lengths


@pytest.mark.parametrize("spare", [0, 1, 100])
@pytest.mark.parametrize("block_m", [16, 32])
@pytest.mark.parametrize("sequences", [1, 2, 20, 258])
def test_a_block_map_has_every_block(sequences: int, block_m: int, spare: int, device: str) -> None:
    lengths = mixed_lengths(sequences)
    lengths[-1] = 0  # as those that a bucket adds
    offsets = offsets_of(lengths.tolist(), device)
    blocks = int(lengths.sum()) // block_m + sequences + spare
    found = map_blocks(offsets, block_m, blocks, {}).cpu().numpy()
    assert found.shape == (blocks,)
    first = offsets.cpu().numpy() // block_m + np.arange(sequences + 1)
    np.testing.assert_array_equal(
        found, np.searchsorted(first[:-1], np.arange(blocks), "right") - 1
    )
    owned = np.bincount(found, minlength=sequences)
    assert (owned >= -(-lengths // block_m)).all()


def test_a_run_maps_its_blocks_once(device: str, normal: Make) -> None:
    """All layers read the map of the first, and answer as if each had made its own."""
    lengths = mixed_lengths(20)
    offsets = offsets_of(lengths.tolist(), device)
    qkv = normal(int(lengths.sum()), 96, dtype=torch.float32)
    settings = {"num_heads": 2, "max_length": int(lengths.max())}
    maps: BlockMaps = {}
    for tiles in (TILES["steps"], TILES["one step"], AttentionTiles(32, 16, 4, 1)):
        shared = [
            packed_attention(qkv, offsets, **settings, tiles=tiles, block_maps=maps)
            for _ in range(2)
        ]
        alone = packed_attention(qkv, offsets, **settings, tiles=tiles)
        assert torch.equal(shared[0], alone)
        assert torch.equal(shared[1], alone)
    assert {key[1] for key in maps} == {16, 32}
    # A map that is there is read, and not made again: a wrong one gives wrong answers.
    for found in maps.values():
        found.zero_()
    wrong = packed_attention(qkv, offsets, **settings, tiles=TILES["steps"], block_maps=maps)
    assert not torch.equal(wrong, alone)
    # No map where every sequence has the blocks of the longest.
    none: BlockMaps = {}
    packed_attention(
        qkv[:8], offsets_of([4, 4], device), num_heads=2, max_length=4, block_maps=none
    )
    assert none == {}


@pytest.mark.parametrize("sequences", [1, 2, 20, 258])
def test_every_block_finds_its_sequence(sequences: int, device: str) -> None:
    """Many short sequences and a few long ones, so that a map of blocks is made."""
    lengths = mixed_lengths(sequences)
    offsets = offsets_of(lengths.tolist(), device)
    # Equal weights, and 1 only for a sequence's first token: each result is 1 / length.
    qkv = torch.zeros(int(lengths.sum()), 48, device=device)
    starts = offsets[:-1][torch.from_numpy(lengths).to(device) > 0]
    qkv[starts.long(), 32:] = 1
    got = packed_attention(qkv, offsets, num_heads=1, tiles=TILES["one step"])
    expected = np.repeat(1 / np.maximum(lengths, 1), lengths)
    np.testing.assert_allclose(got.cpu(), np.repeat(expected[:, None], 16, axis=1), rtol=1e-5)


# Triton's interpreter warns about the maximum of NaN.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("max_length", [None, 40])
def test_sequences_do_not_affect_each_other(
    max_length: int | None, device: str, normal: Make
) -> None:
    offsets = offsets_of([20, 40, 9], device)
    qkv = normal(69, 96, dtype=torch.float32)
    settings = {"num_heads": 2, "max_length": max_length, "tiles": TILES["steps"]}
    alone = packed_attention(qkv, offsets, **settings)
    qkv[20:60] = torch.nan
    got = packed_attention(qkv, offsets, **settings)
    assert got[20:60].isnan().all()
    assert torch.equal(got[:20], alone[:20])
    assert torch.equal(got[60:], alone[60:])


def test_causal_tokens_ignore_later_tokens(device: str, normal: Make) -> None:
    offsets = offsets_of([50], device)
    qkv = normal(50, 96, dtype=torch.float32)
    settings = {"num_heads": 2, "causal": 1, "tiles": TILES["steps"]}
    before = packed_attention(qkv, offsets, **settings)
    qkv[30:] *= 1000
    assert torch.equal(packed_attention(qkv, offsets, **settings)[:30], before[:30])


@pytest.mark.parametrize("tiles", ["steps", "one step"])
def test_large_scores_stay_finite(tiles: str, device: str, normal: Make) -> None:
    # Scores up to 3e10, far beyond float16, whose powers overflow. They are sums of powers of two,
    # which float32 adds up exactly, so that it finds the same ties as float64.
    offsets = offsets_of([40, 1], device)
    qkv = normal(41, 96, dtype=torch.float16)
    qkv[:, :64] = qkv[:, :64].sign() * 32768
    got = packed_attention(qkv, offsets, num_heads=1, tiles=TILES[tiles])
    expected = torch_attention(qkv.double(), offsets, 1)
    # Keys with the same score share the weight, so the result is the mean of a few values.
    np.testing.assert_allclose(got.double().cpu(), expected.cpu(), atol=2e-3)
    qkv[:, :64] = qkv[:, :64].sign() * 65504
    got = packed_attention(qkv, offsets, num_heads=1, tiles=TILES[tiles])
    assert (got.abs() <= qkv[:, 64:].abs().max()).all()


def test_no_tokens(device: str, normal: Make) -> None:
    no_sequences = offsets_of([], device)
    assert packed_attention(
        normal(0, 96, dtype=torch.float16), no_sequences, num_heads=1
    ).shape == (0, 32)
    empty = offsets_of([0, 0], device)
    assert packed_attention(normal(0, 96, dtype=torch.float16), empty, num_heads=1).shape == (0, 32)
    spare = packed_attention(normal(4, 96, dtype=torch.float16), empty, num_heads=1)
    assert spare.isnan().all()
