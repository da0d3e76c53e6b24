"""Fixtures of the tests of heads."""

from collections.abc import Callable
from typing import Any

import pytest

TOLERANCE = 1e-4


@pytest.fixture(scope="session")
def agree() -> Callable[[Any, Any], None]:
    """Assert that two answers are equal: floats within 1e-4, all else exactly, and types too."""
    return _agree


def _agree(ours: Any, reference: Any) -> None:
    assert type(ours) is type(reference)
    if isinstance(reference, dict):
        assert list(ours) == list(reference)
        for name in reference:
            _agree(ours[name], reference[name])
    elif isinstance(reference, list):
        assert len(ours) == len(reference)
        for our_item, reference_item in zip(ours, reference, strict=True):
            _agree(our_item, reference_item)
    elif isinstance(reference, float):
        assert ours == pytest.approx(reference, abs=TOLERANCE)
    else:
        assert ours == reference
