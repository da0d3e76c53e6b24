"""The package `bertrt.ray`, where Ray may be missing."""

import sys

import pytest

import bertrt.ray
from bertrt.errors import BertrtError


def test_public_names() -> None:
    assert list(bertrt.ray.__all__) == sorted(bertrt.ray.__all__)
    assert set(bertrt.ray.__all__) == set(bertrt.ray._LAZY)
    assert set(bertrt.ray.__all__) <= set(dir(bertrt.ray))
    with pytest.raises(AttributeError, match=r"module 'bertrt\.ray' has no attribute 'nothing'"):
        _ = bertrt.ray.nothing


def test_a_missing_ray_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bertrt.ray._LAZY, "something", "ray.something")
    monkeypatch.setitem(sys.modules, "ray", None)
    expected = r"bertrt\.ray\.something needs packages .*: .* pip install 'bertrt\[ray\]'$"
    with pytest.raises(BertrtError, match=expected):
        _ = bertrt.ray.something
