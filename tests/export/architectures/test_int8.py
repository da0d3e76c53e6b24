"""int8 of other encoders: the bounds are proved, and the answers are near float32's."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

import bertrt

Exported = Callable[..., SimpleNamespace]
TEXTS = [
    "the cat sat on the mat",
    "a big dog ran",
    "what is <pad> of the city",
    "you",
    "we and they",
]


@pytest.mark.parametrize(("model_type", "device"), [("roberta", "any"), ("albert", "cpu")])
def test_vectors(exported: Exported, model_type: str, device: str) -> None:
    # Weights as they are initialized: those of a trained model are not wider.
    changes = {"spread": 0.02, "initializer_range": 0.1}
    options = (("device", device), ("dtype", "int8"))
    made = exported(model_type, "Model", options, **changes)
    plain = exported(model_type, "Model", (), **changes)
    report = made.manifest.quantization
    assert report is not None
    assert report["cosine"] >= 0.995
    vectors = []
    for folder in (made.folder, plain.folder):
        with bertrt.load(folder, threads=1) as rt:
            vectors.append(np.array(rt.embed(TEXTS)))
    ours, expected = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
    itself = (ours * expected).sum(axis=1)
    others = (expected @ expected.T)[~np.eye(len(TEXTS), dtype=bool)]
    assert itself.min() > 0.99 > others.max()
