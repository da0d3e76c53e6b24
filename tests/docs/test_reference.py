"""The reference pages say what the code has: options, fields, and error messages."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact import manifest
from bertrt.artifact.model_config import ModelConfig
from bertrt.artifact.targets import TARGETS
from bertrt.cli import COMMANDS, main
from bertrt.export.parity.float32 import OutputParity

ROOT = Path(__file__).parents[2]
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
ARTIFACT = (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\b(?!-)")
NAMES = [module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS]


def _section(page: str, title: str) -> str:
    """The part of a page below a heading, up to the next one of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", page, re.MULTILINE)
    assert found, title
    rest = page[found.end() :]
    return re.split(rf"^#{{1,{len(found[1])}}} ", rest, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("command", NAMES)
def test_options_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(OPTION.findall(capsys.readouterr().out)) - {"--help"}
    rows = [
        line for line in _section(CLI, f"bertrt {command}").splitlines() if line.startswith("| `")
    ]
    assert set(OPTION.findall("\n".join(row.split(" | ")[0] for row in rows))) == options


def test_every_command_has_a_section() -> None:
    assert re.findall(r"^## bertrt ([\w-]+)$", CLI, re.MULTILINE) == NAMES


@pytest.mark.parametrize(
    "kind",
    [
        manifest.Manifest,
        ModelConfig,
        manifest.Graph,
        manifest.TensorSpec,
        manifest.Variant,
        manifest.TokenizerFacts,
        manifest.EmbeddingFacts,
        manifest.CrossEncoderFacts,
        manifest.SparseFacts,
        manifest.MultiVectorFacts,
        manifest.QueryExpansion,
        manifest.FileEntry,
    ],
)
def test_fields_of_the_manifest(kind: Any) -> None:
    table = _section(ARTIFACT, kind.__name__)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        field.name for field in dataclasses.fields(kind)
    ]


def test_fields_of_the_parity_report() -> None:
    table = _section(ARTIFACT, "parity")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [
        field.name for field in dataclasses.fields(OutputParity)
    ]


def test_schema_number() -> None:
    assert f"## Schema {manifest.SCHEMA}\n" in ARTIFACT


def test_targets() -> None:
    table = _section(ARTIFACT, "Targets")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \|", table, re.MULTILINE)
    found = {(device, engine): re.findall(r"`(\w+)`", dtypes) for device, engine, dtypes in rows}
    assert found == {(t.device, t.engine): list(t.dtypes) for t in TARGETS}


def _messages() -> list[str]:
    return re.findall(r"^```text\n(.+)\n```$", TROUBLESHOOTING, re.MULTILINE)


def _text(node: ast.AST) -> str:
    """A string of the code, with an ellipsis for each value that is put in; "" for other nodes."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ""


@pytest.fixture(scope="module")
def strings() -> set[str]:
    """The texts in the packages' code."""
    paths = (
        path for name in ("bertrt", "export", "kernels") for path in (ROOT / name).rglob("*.py")
    )
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in paths)
    return {_text(node) for tree in trees for node in ast.walk(tree)}


@pytest.mark.parametrize("message", _messages())
def test_messages_are_those_of_the_code(message: str, strings: set[str]) -> None:
    assert any(message in text for text in strings)


def test_messages_are_many() -> None:
    assert len(_messages()) > 35
