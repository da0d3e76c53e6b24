"""Stored precisions, by a definition number by number and by sentence-transformers' own numbers."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt import InputError, quantize_embeddings
from bertrt.heads.quantize_embeddings import PRECISIONS

PACKED = ("binary", "ubinary")


def level(value: Any, low: Any, high: Any) -> int:
    """Return which of 256 steps from `low` to `high` a number is in."""
    step = (np.float32(high) - np.float32(low)) / np.float32(255)
    return min(max(math.floor((value - np.float32(low)) / (step or np.float32(1))), 0), 255)


def reference(vector: np.ndarray, precision: str, ranges: np.ndarray | None) -> list[Any]:
    """Quantize one vector, number by number."""
    if precision == "float32":
        return [float(np.float32(value)) for value in vector]
    if precision in PACKED:
        bits = "".join("1" if value > 0 else "0" for value in vector)
        levels = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    else:
        assert ranges is not None
        levels = [level(*numbers) for numbers in zip(vector, *ranges, strict=True)]
    return levels if precision.startswith("u") else [number - 128 for number in levels]


def vectors(count: int, size: int, dtype: Any = np.float32) -> np.ndarray:
    """Return random vectors with a dimension that is constant and one with zeros."""
    random = np.random.default_rng(count * 1000 + size)
    values = random.normal(size=(count, size)) * 3
    values[:, size // 2] = 0.25
    values[::2, -1] = 0
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 37])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_number(precision: str, size: int, dtype: Any) -> None:
    array = vectors(5, size, dtype)
    own = np.stack([array.min(axis=0), array.max(axis=0)])
    narrow = np.stack([np.full(size, -1), np.linspace(-1, 2, size)])
    for ranges, options in (
        (own, {}),
        (own, {"calibration": array}),
        (narrow, {"ranges": narrow}),
        # The ranges are taken where there are both.
        (narrow, {"ranges": narrow.tolist(), "calibration": array}),
    ):
        quantized = quantize_embeddings(array, precision, **options)
        assert quantized.dtype == PRECISIONS[precision]
        expected = [reference(vector, precision, ranges) for vector in array]
        assert quantized.tolist() == expected
        if ranges is narrow or precision not in ("int8", "uint8"):
            one = quantize_embeddings(array[1], precision, **options)
            assert (one.tolist(), one.dtype) == (expected[1], quantized.dtype)
            assert quantize_embeddings(list(array), precision, **options).tolist() == expected


# What sentence-transformers 6.2's quantize_embeddings returns for these four vectors.
GRID = np.arange(4 * 11).reshape(4, 11)
RECORDED = ((GRID * GRID * 7) % 101 - 50).astype(np.float32) / 64
RECORDED[:, 3] = 0.25
ANSWERS = {
    "int8": [
        [-128, -128, -128, -128, -128, 123, 127, -83, 90, 67, 114],
        [52, 127, 44, -128, 32, 126, -128, -57, -128, 127, 1],
        [127, 38, 126, -128, 117, 43, 40, -128, 59, 61, 126],
        [94, -115, 119, -128, 126, -128, 83, 127, 127, -128, -128],
    ],
    "uint8": [
        [0, 0, 0, 0, 0, 251, 255, 45, 218, 195, 242],
        [180, 255, 172, 0, 160, 254, 0, 71, 0, 255, 129],
        [255, 166, 254, 0, 245, 171, 168, 0, 187, 189, 254],
        [222, 13, 247, 0, 254, 0, 211, 255, 255, 0, 0],
    ],
    "binary": [[-108, -32], [-4, -32], [124, -32], [-71, 0]],
    "ubinary": [[20, 96], [124, 96], [252, 96], [57, 128]],
}


@pytest.mark.parametrize("precision", ANSWERS)
def test_the_numbers_of_sentence_transformers(precision: str) -> None:
    assert quantize_embeddings(RECORDED, precision).tolist() == ANSWERS[precision]


def test_the_ranges_and_calibration_of_sentence_transformers() -> None:
    ranges = np.stack([np.full(11, -0.5), np.full(11, 0.25)])
    one = quantize_embeddings(RECORDED[0], "int8", ranges)
    assert one.tolist() == [-128, -128, -75, 127, -128, 127, 42, -12, 10, 105, 127]
    one = quantize_embeddings(RECORDED[1], "uint8", calibration=RECORDED[:3])
    assert one.tolist() == [180, 255, 172, 0, 166, 255, 0, 254, 0, 255, 0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_vectors(precision: str) -> None:
    quantized = quantize_embeddings(np.empty((0, 11), np.float32), precision)
    assert quantized.shape == (0, 2 if precision in PACKED else 11)
    assert quantized.dtype == PRECISIONS[precision]
    assert quantize_embeddings([], precision).shape == (0,)


def test_the_array_is_left_as_it_is() -> None:
    array = vectors(3, 9)
    before = array.copy()
    for precision in PRECISIONS:
        assert not np.shares_memory(quantize_embeddings(array, precision), array)
    np.testing.assert_array_equal(array, before)


NAN = np.full((3, 4), np.nan, np.float32)
RANGES = np.stack([np.full(4, -1.0), np.full(4, 1.0)])


@pytest.mark.parametrize(
    ("embeddings", "precision", "options", "message"),
    [
        (vectors(3, 4), "int4", {}, "precision is 'int4': use one of float32, int8, uint8"),
        (vectors(3, 4), None, {}, "precision is None: use one of"),
        (vectors(1, 4), "int8", {}, "precision is 'int8', .* a single vector has none: give"),
        (vectors(1, 4)[0], "uint8", {}, "precision is 'uint8', .* a single vector has none"),
        (vectors(3, 4), "int8", {"ranges": RANGES[:1]}, r"shape \[1, 4\]: give \[2, 4\]"),
        (vectors(3, 4), "int8", {"ranges": RANGES[:, :3]}, r"shape \[2, 3\]: give \[2, 4\]"),
        (vectors(3, 4), "int8", {"ranges": RANGES[::-1]}, "a minimum above its maximum"),
        (vectors(3, 4), "int8", {"ranges": NAN[:2]}, "ranges has a number that is not finite"),
        (vectors(3, 4), "int8", {"ranges": "wide"}, "ranges is 'wide'"),
        (vectors(3, 4), "int8", {"calibration": NAN}, "calibration has a number that is not"),
        (vectors(3, 4), "int8", {"calibration": vectors(3, 5)}, r"\[2, 5\]: give \[2, 4\]"),
        (vectors(3, 4), "int8", {"calibration": NAN[0]}, r"the shape \[4\]: give vectors"),
        (vectors(3, 4), "int8", {"calibration": NAN[:0]}, r"the shape \[0, 4\]: give vectors"),
        (NAN, "int8", {}, "embeddings has a number that is not finite"),
        (vectors(3, 4).astype(np.int8), "int8", {}, "embeddings is int8, which is quantized"),
        (vectors(3, 4).astype(np.uint8), "binary", {}, "embeddings is uint8, which is quantized"),
        (vectors(4, 4).reshape(2, 2, 4), "binary", {}, r"the shape \[2, 2, 4\]: give \[n, H\]"),
        (np.float32(3), "binary", {}, r"the shape \[\]: give \[n, H\]"),
        ([[1.0, 2.0], [3.0]], "binary", {}, "embeddings is no array of numbers"),
        (["a", "b"], "binary", {}, r"embeddings is \['a', 'b'\]: give an array"),
        ([True], "binary", {}, "give an array of floats"),
    ],
)
def test_what_cannot_be_quantized(
    embeddings: Any, precision: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize_embeddings(embeddings, precision, **options)


TEXTS = ["the cat sat on the mat", "paris", "", "who is the president", "a dog"]


@pytest.fixture
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertModel")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_embed_stores_its_vectors(rt: Any, precision: str) -> None:
    plain = rt.embed(TEXTS, dimensions=13)
    ranges = np.stack([plain.min(axis=0), plain.max(axis=0)])
    expected = quantize_embeddings(plain, precision)
    for method in (rt.embed, rt.embed_query, rt.embed_document):
        quantized = method(TEXTS, dimensions=13, precision=precision)
        np.testing.assert_array_equal(quantized, expected, strict=True)

    options: dict[str, Any] = {"dimensions": 13, "precision": precision}
    if precision in ("int8", "uint8"):
        options["ranges"] = ranges

    def close(answer: Any, index: int) -> None:
        # A text alone is rounded in another order than in a batch: one step at most.
        assert (answer.shape, answer.dtype) == (expected[index].shape, expected.dtype)
        if precision in PACKED:
            np.testing.assert_array_equal(answer, expected[index])
        else:
            difference = answer.astype(float) - expected[index]
            assert np.abs(difference).max() <= (1e-5 if precision == "float32" else 1)

    streamed = rt.embed(iter(TEXTS), **options)
    for index, vector in enumerate(streamed):
        close(vector, index)
    assert index == len(TEXTS) - 1
    close(rt.embed(TEXTS[0], **options), 0)
    close(rt.embed(TEXTS[1:2], **options)[0], 1)
    with rt.batcher() as batcher:
        close(batcher.embed(TEXTS[3], **options), 3)
        assert batcher.embed(TEXTS[3:4], **options).shape == (1, *expected.shape[1:])
        close(batcher.submit_embed(TEXTS[4], **options).result(), 4)
    close(asyncio.run(rt.aembed(TEXTS[0], **options)), 0)


@pytest.mark.parametrize(
    ("texts", "what"),
    [("a cat", "a single text"), (["a cat"], "a single text"), (iter(["a", "b"]), "an iterator")],
)
def test_embed_needs_ranges_without_a_list(rt: Any, texts: Any, what: str) -> None:
    """It says so at the call, also for an iterator, which is not touched."""
    with pytest.raises(InputError, match=f"needs the ranges of many vectors, and {what} has none"):
        rt.embed(texts, precision="uint8")
    if what == "an iterator":
        assert next(texts) == "a"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision is 'int4': use one of"),
        ({"ranges": np.zeros((2, 32))}, "precision is 'float32', which has no ranges"),
        ({"precision": "binary", "ranges": np.zeros((2, 32))}, "which has no ranges: use int8"),
        ({"precision": "int8", "ranges": np.zeros((2, 31))}, r"shape \[2, 31\]: give \[2, 32\]"),
        (
            {"precision": "int8", "ranges": np.zeros((2, 32)), "pooling": ["cls", "mean"]},
            r"shape \[2, 32\]: give \[2, 64\]",
        ),
    ],
)
def test_embed_checks_before_it_runs(
    rt: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rt, "_runner", None)
    with pytest.raises(InputError, match=message):
        rt.embed(TEXTS, **options)


def test_it_is_public() -> None:
    assert bertrt.quantize_embeddings is quantize_embeddings
