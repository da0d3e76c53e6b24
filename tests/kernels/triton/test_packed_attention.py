"""PackedAttention against PyTorch's attention of each sequence alone, and against its reference."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.launch.configs import AttentionTiles
from bertrt.kernels.ops import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
packed_attention = KERNELS["PackedAttention"]

# Empty sequences at the start, in between and at the end; one token, a block's edge, and beyond.
LENGTHS = [0, 5, 1, 0, 32, 33, 16, 0]
LONGEST = max(LENGTHS)
TILES = {
    "table": None,
    "steps": AttentionTiles(16, 16, 4, 1),
    "one step": AttentionTiles(16, 64, 4, 1),
    "one block": AttentionTiles(64, 32, 4, 1),
}


def offsets_of(lengths: list[int], device: str) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)


def one_by_one(
    qkv: torch.Tensor, offsets: torch.Tensor, heads: int, causal: int = 0
) -> torch.Tensor:
    """PyTorch's attention of each sequence, in qkv's dtype."""
    answers = []
    for begin, end in pairwise(offsets.tolist()):
        tokens = qkv[begin:end].unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        answer = F.scaled_dot_product_attention(*tokens, is_causal=bool(causal))
        answers.append(answer.transpose(0, 1).flatten(1))
    return torch.cat(answers)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("longest", [None, LONGEST])
@pytest.mark.parametrize("causal", [0, 1])
def test_is_attention_of_each_sequence(
    causal: int,
    longest: int | None,
    tiles: str,
    dtype: torch.dtype,
    device: str,
    normal: Make,
    near: Callable[..., None],
) -> None:
    heads, size = 2, 32
    offsets = offsets_of(LENGTHS, device)
    total = sum(LENGTHS)
    # The buffer is larger than the tokens in it.
    qkv = normal(total + 9, 3 * heads * size, dtype=dtype, scale=2)
    qkv[total:] = torch.nan
    settings = {"num_heads": heads, "causal": causal}
    got = packed_attention(qkv, offsets, **settings, longest=longest, tiles=TILES[tiles])
    assert got.dtype == dtype
    assert got.shape == (total + 9, heads * size)
    exact = one_by_one(qkv.double(), offsets, heads, causal)
    near(got[:total], exact, one_by_one(qkv, offsets, heads, causal))
    assert got[total:].isnan().all()  # not written


@pytest.mark.parametrize("size", [8, 16, 24, 48, 64, 80, 128])
def test_head_sizes(
    size: int, dtype: torch.dtype, device: str, normal: Make, near: Callable[..., None]
) -> None:
    offsets = offsets_of([20, 3], device)
    qkv = normal(23, 3 * 3 * size, dtype=dtype)
    got = packed_attention(qkv, offsets, num_heads=3)
    near(got, one_by_one(qkv.double(), offsets, 3), one_by_one(qkv, offsets, 3))


def test_equals_its_reference(device: str, normal: Make) -> None:
    qkv, offsets = normal(sum(LENGTHS), 96, dtype=torch.float32), offsets_of(LENGTHS, device)
    for causal in (0, 1):
        settings = {"num_heads": 2, "causal": causal}
        want = OPERATORS["PackedAttention"].reference(
            qkv.cpu().numpy(), offsets.cpu().numpy(), **settings
        )
        got = packed_attention(qkv, offsets, **settings)
        np.testing.assert_allclose(got.cpu(), want, atol=1e-5)


@pytest.mark.parametrize("longest", [None, 1030])
def test_long_sequences(
    longest: int | None, device: str, normal: Make, near: Callable[..., None]
) -> None:
    offsets = offsets_of([1030, 7], device)
    qkv = normal(1037, 96, dtype=torch.float32)
    tiles = AttentionTiles(256, 256, 4, 1)
    got = packed_attention(qkv, offsets, num_heads=1, longest=longest, tiles=tiles)
    near(got, one_by_one(qkv.double(), offsets, 1), one_by_one(qkv, offsets, 1))


@pytest.mark.parametrize("sequences", [1, 2, 20, 258])
def test_every_block_finds_its_sequence(sequences: int, device: str) -> None:
    """Where blocks search for their sequence: any lengths, more of them than one step compares."""
    random = np.random.default_rng(sequences)
    lengths = random.integers(0, 4, sequences)
    lengths[random.integers(0, sequences, 2)] = random.integers(30, 60, 2)
    offsets = offsets_of(lengths.tolist(), device)
    # A one for the first token of a sequence, and equal weights: each answer is a count.
    qkv = torch.zeros(int(lengths.sum()), 48, device=device)
    starts = offsets[:-1][torch.from_numpy(lengths).to(device) > 0]
    qkv[starts.long(), 32:] = 1
    got = packed_attention(qkv, offsets, num_heads=1, tiles=AttentionTiles(16, 64, 4, 1))
    want = np.repeat(1 / np.maximum(lengths, 1), lengths)
    np.testing.assert_allclose(got.cpu(), np.repeat(want[:, None], 16, axis=1), rtol=1e-5)


# Triton's interpreter warns of a maximum among NaN.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("longest", [None, 40])
def test_sequences_do_not_see_each_other(longest: int | None, device: str, normal: Make) -> None:
    offsets = offsets_of([20, 40, 9], device)
    qkv = normal(69, 96, dtype=torch.float32)
    settings = {"num_heads": 2, "longest": longest, "tiles": TILES["steps"]}
    alone = packed_attention(qkv, offsets, **settings)
    qkv[20:60] = torch.nan
    got = packed_attention(qkv, offsets, **settings)
    assert got[20:60].isnan().all()
    assert torch.equal(got[:20], alone[:20])
    assert torch.equal(got[60:], alone[60:])


def test_causal_tokens_do_not_see_later_ones(device: str, normal: Make) -> None:
    offsets = offsets_of([50], device)
    qkv = normal(50, 96, dtype=torch.float32)
    settings = {"num_heads": 2, "causal": 1, "tiles": TILES["steps"]}
    before = packed_attention(qkv, offsets, **settings)
    qkv[30:] *= 1000
    assert torch.equal(packed_attention(qkv, offsets, **settings)[:30], before[:30])


@pytest.mark.parametrize("tiles", ["steps", "one step"])
def test_large_scores_stay_finite(tiles: str, device: str, normal: Make) -> None:
    # Scores to 3e10, far beyond float16, and their powers beyond anything. Powers of two, so that
    # float32 adds them up exactly, and finds the same keys equal as float64 does.
    offsets = offsets_of([40, 1], device)
    qkv = normal(41, 96, dtype=torch.float16)
    qkv[:, :64] = qkv[:, :64].sign() * 32768
    got = packed_attention(qkv, offsets, num_heads=1, tiles=TILES[tiles])
    want = one_by_one(qkv.double(), offsets, 1)
    # Keys with the same score share the weight, so the answer is a mean of a few values.
    np.testing.assert_allclose(got.double().cpu(), want.cpu(), atol=2e-3)
    qkv[:, :64] = qkv[:, :64].sign() * 65504
    got = packed_attention(qkv, offsets, num_heads=1, tiles=TILES[tiles])
    assert (got.abs() <= qkv[:, 64:].abs().max()).all()


def test_nothing(device: str, normal: Make) -> None:
    none = offsets_of([], device)
    assert packed_attention(normal(0, 96, dtype=torch.float16), none, num_heads=1).shape == (0, 32)
    empty = offsets_of([0, 0], device)
    assert packed_attention(normal(0, 96, dtype=torch.float16), empty, num_heads=1).shape == (0, 32)
    spare = packed_attention(normal(4, 96, dtype=torch.float16), empty, num_heads=1)
    assert spare.isnan().all()
