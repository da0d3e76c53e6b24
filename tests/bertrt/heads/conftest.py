"""What the tests of heads share: the comparison of an answer with transformers' answer."""

from collections.abc import Callable
from typing import Any

import pytest

TOLERANCE = 1e-4


@pytest.fixture(scope="session")
def agree() -> Callable[[Any, Any], None]:
    """Assert that an answer equals another: floats within 1e-4, all else exactly, types too."""
    return _agree


def _agree(ours: Any, reference: Any) -> None:
    assert type(ours) is type(reference)
    if isinstance(reference, dict):
        assert list(ours) == list(reference)
        for name in reference:
            _agree(ours[name], reference[name])
    elif isinstance(reference, list):
        assert len(ours) == len(reference)
        for one, other in zip(ours, reference, strict=True):
            _agree(one, other)
    elif isinstance(reference, float):
        assert ours == pytest.approx(reference, abs=TOLERANCE)
    else:
        assert ours == reference
