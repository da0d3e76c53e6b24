"""Every public name has a docstring, which the API reference shows. Nothing is imported here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _module(name: str) -> Path:
    """The file of a module, which is a package's `__init__.py` or a plain file."""
    parts = name.split(".")
    if parts[:2] in (["bertrt", "export"], ["bertrt", "kernels"]):
        parts = parts[1:]
    path = ROOT.joinpath(*parts)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _find(module: str, name: str) -> tuple[Path, Definition]:
    """The definition of a name, through the imports of a package's `__init__.py`."""
    path = _module(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, Definition) and node.name == name and node in tree.body:
            return path, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module != module:
                    return _find(node.module, alias.name)
    raise AssertionError(f"{module} has no {name}")


def _exported(module: str) -> list[str]:
    tree = ast.parse(_module(module).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


def _members(path: Path, node: ast.ClassDef) -> Iterator[ast.stmt]:
    """What a class defines, and what the classes of ours define that it inherits from."""
    yield from node.body
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("bertrt"):
            for base in node.bases:
                if ast.unparse(base) in [alias.name for alias in statement.names]:
                    parent, inherited = _find(str(statement.module), ast.unparse(base))
                    assert isinstance(inherited, ast.ClassDef)
                    yield from _members(parent, inherited)


def _definitions() -> Iterator[tuple[str, Definition]]:
    names = [("bertrt", name) for name in _exported("bertrt") if name != "__version__"]
    names += [("bertrt.batch", name) for name in _exported("bertrt.batch")]
    names += [("bertrt.ray", name) for name in _exported("bertrt.ray")]
    for module, name in [*names, ("bertrt.export", "export")]:
        path, node = _find(module, name)
        place = path.relative_to(ROOT)
        yield f"{place}: {name}", node
        if isinstance(node, ast.ClassDef):
            for member in _members(path, node):
                public = isinstance(member, Definition) and not member.name.startswith("_")
                if public or getattr(member, "name", "") == "__call__":
                    yield f"{place}: {name}.{member.name}", member


DEFINITIONS = dict(_definitions())


@pytest.mark.parametrize("name", DEFINITIONS)
def test_has_a_docstring(name: str) -> None:
    assert ast.get_docstring(DEFINITIONS[name])


def test_finds_them_all() -> None:
    found = {name.partition(": ")[2] for name in DEFINITIONS}
    assert {"load", "Runtime", "Runtime.embed", "export", "InputError"} <= found
    assert len(found) > 40


def test_every_public_name_is_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = [line.removeprefix("::: ") for line in page.splitlines() if line.startswith(":::")]
    expected = {f"bertrt.{name}" for name in _exported("bertrt") if name != "__version__"}
    expected |= {f"bertrt.batch.{name}" for name in _exported("bertrt.batch")}
    expected |= {f"bertrt.ray.{name}" for name in _exported("bertrt.ray")}
    assert set(shown) == expected | {"bertrt.export.export"}
