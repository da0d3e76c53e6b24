"""Models under names, before anything is opened."""

from pathlib import Path
from typing import Any

import pytest

from bertrt.errors import InputError
from bertrt.ray.sources import find, name_models


class Published:
    """What `publish` returns, without a cluster."""

    name = "far"

    def fetch(self) -> Path:
        return Path("/cache/123")


def test_names() -> None:
    far = Published()
    assert name_models("/models/near/") == {"near": "/models/near/"}
    assert name_models(Path("near")) == {"near": Path("near")}
    assert name_models(far) == {"far": far}
    assert name_models(["/a/one", far]) == {"one": "/a/one", "far": far}
    assert name_models({"x": "/a/one", "y": far}) == {"x": "/a/one", "y": far}
    assert list(name_models(".")) == [Path.cwd().name]


def test_where_they_are() -> None:
    assert find("/models/near") == Path("/models/near")
    assert find(Published()) == Path("/cache/123")


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ([], "there is no model"),
        ({}, "there is no model"),
        ("", "a model is '': give an artifact's directory"),
        ({"x": ""}, "a model is '': give an artifact's directory"),
        (7, "a model is 7: give an artifact's directory"),
        ([None], "a model is None"),
        ({"x": 1.5}, r"a model is 1\.5"),
        ({"": "/a"}, "a model's name is ''"),
        ({"a\nb": "/a"}, "give printable characters"),
        (["/a/one", "/b/one"], "the name 'one' is given twice"),
    ],
)
def test_what_is_refused(models: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        name_models(models)
