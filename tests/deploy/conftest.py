"""The files of deploy/, and the schemas for them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="session")
def read() -> Callable[[str], Any]:
    """A function: a file's path in deploy/ to its contents."""
    return lambda path: yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def custom_schemas() -> dict[str, Any]:
    """The schemas that are written by hand, by kind."""
    path = Path(__file__).with_name("custom_resources.py")
    spec = importlib.util.spec_from_file_location("custom_resources", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    schemas: dict[str, Any] = module.SCHEMAS
    return schemas


@pytest.fixture
def parse_serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Any]:
    """A function: arguments of `bertrt` to what `bertrt serve` would run with."""
    from bertrt import cli

    parsed: list[Any] = []

    def note(arguments: Any) -> int:
        parsed.append(arguments)
        return 0

    monkeypatch.setattr(cli.serve, "run", note)

    def parse(arguments: list[str]) -> Any:
        assert cli.main(arguments) == 0
        return parsed.pop()

    return parse
