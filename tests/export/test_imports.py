"""The imports between the packages of the exporter; tests/test_imports.py checks all the others."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "export"
PREFIX = "bertrt.export."

# The packages that each of these may import, besides itself.
ALLOWED = {
    "graph": set(),
    # A layer of a text's vector is traced where it is added.
    "fusion": {"graph", "tracing"},
    "lowering": {"graph"},
    "tracing": {"graph"},
    "architectures": set(),
    "checkpoints": {"architectures"},
    "half_precision": {"graph", "lowering"},
    "pipelines": {"graph", "fusion", "lowering"},
    "parity": {"tracing"},
    "quantize": {"graph"},
}


def imports() -> dict[str, set[str]]:
    """Map each module of the exporter to those that it imports, without the prefix."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        found[module] = {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}
    return found


def test_packages_import_only_what_they_may() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for module, others in imports().items():
        package = module.partition(".")[0]
        if package in ALLOWED:
            used = {other.partition(".")[0] for other in others} & packages
            assert used <= ALLOWED[package] | {package}, module
