"""The code of the guide's recipes, the artifact that they open, and the vectors they must give.

Runs in an environment with the packages and bertrt's runtime alone. The environment variable MODELS
is the folder that make_models.py wrote.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# No package needs the network.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["ANONYMIZED_TELEMETRY"] = "False"

MODELS = Path(os.environ["MODELS"])
PAGE = Path(__file__).parents[2] / "docs" / "guides" / "integrations.md"


@pytest.fixture(scope="session")
def recipe() -> Callable[[str], SimpleNamespace]:
    """A factory: a heading of the guide to the names that the code below it defines."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)

    def find(heading: str) -> SimpleNamespace:
        section = next(one for one in sections if one.startswith(f"{heading}\n"))
        (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        # Annotations are read from the module that a class names.
        module = type(sys)(f"recipe_{len(sys.modules)}")
        sys.modules[module.__name__] = module
        exec(compile(code, f"{PAGE.name}: {heading}", "exec"), module.__dict__)
        return SimpleNamespace(**module.__dict__)

    return find


@pytest.fixture(scope="session")
def folder() -> str:
    """The artifact's folder."""
    return str(MODELS / "embedder")


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """The texts, and sentence-transformers' vectors of them by the names of make_models.py."""
    answers: dict[str, Any] = json.loads((MODELS / "expected.json").read_text(encoding="utf-8"))
    return answers


@pytest.fixture(autouse=True)
def without_torch() -> Iterator[None]:
    """The recipes need no PyTorch."""
    yield
    assert "torch" not in sys.modules
