"""Pooling, compared with PyTorch at odd lengths."""

import numpy as np
import pytest

from bertrt.heads.pooling import POOLINGS, finish_vector, pool


def random_sample(length: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(length)
    return {
        "last_hidden_state": random.normal(size=(length, 13)).astype(np.float32),
        "pooler_output": random.normal(size=13).astype(np.float32),
    }


@pytest.mark.parametrize("length", [1, 2, 33])
def test_poolings(length: int) -> None:
    torch = pytest.importorskip("torch")
    sample = random_sample(length)
    hidden = torch.from_numpy(sample["last_hidden_state"])
    expected = {
        "mean": hidden.mean(dim=0),
        "max": hidden.max(dim=0).values,
        "cls": hidden[0],
        "pooler": torch.from_numpy(sample["pooler_output"]),
        "mean_sqrt_len_tokens": hidden.sum(dim=0) / length**0.5,
        "weightedmean": (hidden * torch.arange(1, length + 1)[:, None]).sum(dim=0)
        / (length * (length + 1) / 2),
        "lasttoken": hidden[-1],
    }
    assert set(expected) == set(POOLINGS)
    for pooling, vector in expected.items():
        answer = pool(sample, pooling)
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, vector.numpy(), atol=1e-6)


def test_a_prompts_tokens_are_skipped() -> None:
    sample = random_sample(9)
    hidden = sample["last_hidden_state"]
    expected = {
        "mean": hidden[4:].mean(axis=0),
        "cls": hidden[4],
        "lasttoken": hidden[8],
        "max": hidden[4:].max(axis=0),
        "weightedmean": np.average(hidden[4:], axis=0, weights=range(5, 10)),
    }
    for pooling, vector in expected.items():
        np.testing.assert_allclose(pool(sample, pooling, 4), vector, atol=1e-6)


@pytest.mark.parametrize("dimensions", [None, 1, 5, 13])
def test_vectors_are_shortened_before_they_are_normalized(dimensions: int | None) -> None:
    torch = pytest.importorskip("torch")
    vector = random_sample(1)["pooler_output"]
    short = torch.from_numpy(vector)[:dimensions]
    expected = torch.nn.functional.normalize(short, dim=0)
    answer = finish_vector(vector, dimensions=dimensions)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-6)
    assert np.linalg.norm(answer) == pytest.approx(1, abs=1e-6)
    plain = finish_vector(vector, normalize=False, dimensions=dimensions)
    np.testing.assert_array_equal(plain, short.numpy())


def test_zeros_stay_zeros() -> None:
    np.testing.assert_array_equal(finish_vector(np.zeros(4, np.float32)), np.zeros(4))
