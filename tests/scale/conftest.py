"""The runtime's answers, which those of a cluster have to equal."""

import numpy as np
import pytest

import bertrt
from ray_serve import EMBEDDER, TEXTS


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    """The unit vectors of TEXTS, which differ."""
    with bertrt.load(EMBEDDER, threads=1) as runtime:
        found: np.ndarray = runtime.embed(TEXTS, normalize=True)
    assert (found @ found.T - np.eye(len(TEXTS))).max() < 0.9999
    return found
