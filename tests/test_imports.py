"""Imports: which modules may import which, and what an import loads into the process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Folders of the repository by the package that each is installed as.
PACKAGES = {"bertrt": "bertrt", "export": "bertrt.export", "kernels": "bertrt.kernels"}
HEAVY = ("torch", "transformers", "onnx", "onnxscript", "triton", "huggingface_hub", "safetensors")
HEAVY += ("pyarrow", "ray")

# What each part may import besides itself, without the prefix "bertrt.". A name covers everything
# below it.
ALLOWED = {
    "bertrt._version": "",
    "bertrt.errors": "",
    "bertrt.checks": "errors",
    "bertrt.progress": "errors",
    "bertrt.staging": "",
    "bertrt.artifact": "errors",
    "bertrt.arrays": "artifact errors",
    "bertrt.tokens": "",
    "bertrt.text_tensors": "artifact",
    "bertrt.tokenizer": "tokens artifact checks errors",
    "bertrt.heads": "tokenizer tokens artifact checks errors",
    "bertrt.engines": "artifact arrays checks errors _version",
    "bertrt.scheduling": "heads tokenizer tokens engines artifact arrays checks errors",
    "bertrt.methods": "heads tokenizer scheduling artifact progress errors",
    "bertrt.runtime": "methods heads tokenizer tokens scheduling engines artifact arrays progress "
    "checks errors",
    "bertrt.serving": "runtime heads scheduling tokenizer text_tensors artifact checks errors "
    "_version",
    "bertrt.batch": "runtime artifact progress staging errors _version",
    "bertrt.ray": "serving batch scheduling heads artifact progress staging checks errors",
    "bertrt.triton_repository": "runtime heads tokenizer tokens text_tensors artifact staging "
    "errors _version",
    "bertrt": "runtime heads scheduling tokenizer arrays errors _version",
    "bertrt.cli": "runtime serving batch triton_repository scheduling engines artifact arrays "
    "progress staging checks errors _version",
    "bertrt.__main__": "cli",
    "bertrt.kernels": "artifact arrays engines.fork_safe errors",
    "bertrt.export": "heads tokenizer tokens scheduling engines artifact arrays progress staging "
    "checks errors _version kernels.ops",
}
# These need packages that the runtime does without, so they are imported inside a function.
DEFERRED = {
    "bertrt.cli.batch": "bertrt.ray.data",
    "bertrt.cli.export": "bertrt.export",
    "bertrt.engines.select": "bertrt.kernels.engine.session",
}

# These import Ray, which the development environment lacks.
WITH_RAY = ("bertrt.ray.application", "bertrt.ray.publishing", "bertrt.ray.replica")


def find_modules() -> dict[str, Path]:
    """Map the name of every module to its file."""
    modules = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder)
            if folder == "bertrt" and relative.parts[0] in PACKAGES:
                continue  # links to the other two folders
            name = ".".join((package, *relative.with_suffix("").parts))
            modules[name.removesuffix(".__init__")] = path
    return modules


def find_imports(source: str, modules: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """Yield each module of ours that a source imports, and whether inside a function."""
    tree = ast.parse(source)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    deferred = {
        inner for node in ast.walk(tree) if isinstance(node, functions) for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from package import name` imports a module or something that the package defines.
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [path if path in modules else str(node.module) for path in paths]
        for name in names:
            if name in modules:
                yield name, node in deferred


def packages_of(module: str) -> list[str]:
    """Return the packages that a module is in, from the outermost."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return a cycle of a graph, as names of which each imports the next; empty without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def within(module: str, name: str) -> bool:
    """Return whether a module is `name` or below it."""
    return module == name or module.startswith(f"{name}.")


def part_of(module: str) -> str:
    """Return the part of `ALLOWED` that a module belongs to."""
    return max((part for part in ALLOWED if within(module, part)), key=len)


def is_allowed(module: str, target: str, deferred: bool) -> bool:
    """Return whether a module may import another; `deferred` means inside a function."""
    if module in DEFERRED and within(target, DEFERRED[module]):
        return deferred
    part = part_of(module)
    if part == part_of(target) or (part, target) == ("bertrt.cli", "bertrt"):
        return True
    return any(within(target, f"bertrt.{name}") for name in ALLOWED[part].split())


def test_every_module_belongs_to_a_part() -> None:
    modules = find_modules()
    assert len(modules) > 200
    members = {part: [name for name in modules if part_of(name) == part] for part in ALLOWED}
    assert all(members.values())
    assert members["bertrt"] == ["bertrt"]


def test_imports_follow_the_architecture() -> None:
    """Imports inside functions and under TYPE_CHECKING count as well."""
    modules = find_modules()
    forbidden = [
        f"{module} imports {target}"
        for module, path in modules.items()
        for target, deferred in find_imports(path.read_text(encoding="utf-8"), modules)
        if not is_allowed(module, target, deferred)
    ]
    assert not forbidden


def test_there_is_no_import_cycle() -> None:
    modules = find_modules()
    graph = {}
    for module, path in modules.items():
        targets = {name for name, _ in find_imports(path.read_text(encoding="utf-8"), modules)}
        # Python imports the packages of a module first, unless they are being imported already.
        packages = {package for target in targets for package in packages_of(target)}
        graph[module] = (targets | packages - set(packages_of(module))) - {module}
    assert find_cycle(graph) == []


@pytest.mark.parametrize(
    ("module", "target", "deferred", "allowed"),
    [
        ("bertrt.heads.base", "bertrt.heads.request", False, True),
        ("bertrt.heads.base", "bertrt.engines.ort", False, False),
        ("bertrt.heads.base", "bertrt.artifact.directory", False, True),
        ("bertrt.artifact.manifest", "bertrt.engines.ort", True, False),
        ("bertrt.scheduling.workers", "bertrt.runtime", True, False),
        ("bertrt.scheduling.workers", "bertrt", True, False),
        ("bertrt.runtime", "bertrt.export.exporter", True, False),
        ("bertrt.cli.export", "bertrt.export.exporter", True, True),
        ("bertrt.cli.export", "bertrt.export.exporter", False, False),
        ("bertrt.cli.run", "bertrt.export.exporter", True, False),
        ("bertrt.cli.run", "bertrt", True, True),
        ("bertrt.engines.select", "bertrt.kernels.engine.session", True, True),
        ("bertrt.engines.select", "bertrt.kernels.engine.session", False, False),
        ("bertrt.engines.ort", "bertrt.kernels.engine.session", True, False),
        ("bertrt.kernels.engine.session", "bertrt.engines.fork_safe", False, True),
        ("bertrt.kernels.engine.session", "bertrt.engines.ort", False, False),
        ("bertrt.kernels.engine.session", "bertrt.export.heads", True, False),
        ("bertrt.export.exporter", "bertrt.kernels.ops.pack", False, True),
        ("bertrt.export.exporter", "bertrt.kernels.triton", False, False),
        ("bertrt.export.exporter", "bertrt.runtime", False, False),
    ],
)
def test_rules(module: str, target: str, deferred: bool, allowed: bool) -> None:
    assert is_allowed(module, target, deferred) is allowed


def test_cycles_and_hidden_imports_are_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    source = """
from typing import TYPE_CHECKING
import bertrt.errors
if TYPE_CHECKING:
    from bertrt import runtime
class Late:
    async def method(self):
        from bertrt.heads.base import Head
        import torch
"""
    assert list(find_imports(source, find_modules())) == [
        ("bertrt.errors", False),
        ("bertrt.runtime", False),
        ("bertrt.heads.base", True),
    ]


def run_python(code: str, *args: str, cwd: Path = ROOT, safe_path: bool = True) -> str:
    """Run code in a new interpreter; `safe_path` keeps the working directory off its path."""
    flags = ["-P"] if safe_path else []
    command = [sys.executable, *flags, "-W", "error::ImportWarning", "-c", code, *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PRINT_HEAVY = f"print(*[name for name in {HEAVY!r} if name in sys.modules])"


def test_importing_bertrt_is_light() -> None:
    assert run_python(f"import sys, bertrt; {PRINT_HEAVY}") == ""
    assert run_python("import sys, bertrt; print('onnxruntime' in sys.modules)") == "False"


@pytest.mark.parametrize("package", ["bertrt.export", "bertrt.kernels"])
def test_importing_a_package_alone_is_light(package: str) -> None:
    assert run_python(f"import sys, {package}; {PRINT_HEAVY}") == ""


def test_answering_does_not_import_pytorch(make_artifact: object) -> None:
    path = make_artifact("BertForMaskedLM")  # type: ignore[operator]
    code = (
        "import sys, bertrt\n"
        "with bertrt.load(sys.argv[1]) as rt:\n"
        "    assert len(rt('the cat [MASK] on the mat')) == 5\n"
        f"{PRINT_HEAVY}"
    )
    assert run_python(code, str(path)) == ""


def test_every_runtime_module_is_light() -> None:
    names = [
        name
        for name in find_modules()
        if not within(name, "bertrt.export")
        and not within(name, "bertrt.kernels")
        # The other is for Triton's Python backend, which alone has a module that it imports.
        and name not in ("bertrt.__main__", "bertrt.triton_repository.model", *WITH_RAY)
    ]
    code = (
        f"import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n{PRINT_HEAVY}"
    )
    assert len(names) > 50
    assert run_python(code) == ""


def test_export_is_the_same_function_before_and_after_its_module_is_imported() -> None:
    code = (
        "from bertrt.export import export as first\n"
        "import bertrt.export.exporter\n"
        "from bertrt.export import export as second\n"
        "assert first is second is bertrt.export.exporter.export"
    )
    run_python(code)


def test_transformers_imports_from_the_repository_root() -> None:
    # With the root on sys.path our folder is found as `kernels`, a name that transformers probes.
    code = "import kernels, export; assert 'torch' not in __import__('sys').modules; "
    run_python(code + "from transformers import BertModel", safe_path=False)


def test_folders_of_the_repository_are_not_installed_as_packages(tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        f"for name in ('kernels', 'export', 'tests', 'benchmarks'):\n"
        f"    spec = find_spec(name)\n"
        f"    assert spec is None or {str(ROOT)!r} not in str(spec.origin), name"
    )
    run_python(code, cwd=tmp_path)


def test_public_names() -> None:
    import bertrt

    assert list(bertrt.__all__) == sorted(bertrt.__all__)
    for name in bertrt.__all__:
        assert getattr(bertrt, name) is not None
    errors = [
        value
        for value in vars(bertrt).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(errors) == 10
    assert all(issubclass(error, bertrt.BertrtError) for error in errors)
