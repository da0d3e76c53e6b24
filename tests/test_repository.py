"""Check the repository's own files: what CONTRIBUTING.md names exists, and YAML can be read."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", CONTRIBUTING))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_paths_in_contributing_exist() -> None:
    words = {word for quoted in QUOTED for word in quoted.split()}
    paths = {word for word in words if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", word)}
    assert len(paths) > 30
    built = (".venv/",)
    for path in sorted(paths):
        assert path.startswith(built) or (ROOT / path).exists(), path


def test_constants_in_contributing_exist() -> None:
    names = {quoted for quoted in QUOTED if re.fullmatch(r"[A-Z_]{4,}", quoted)}
    assert len(names) >= 4
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("bertrt", "export", "kernels", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    )
    for name in names:
        assert re.search(rf"^{name}\b", code, re.MULTILINE), name


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"])
def test_make_targets_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"^[\s\-`\w:]*\bmake ([a-z][\w-]*)|`make ([\w-]+)`", text, re.MULTILINE)
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    found = {first or second for first, second in named}
    assert found
    assert found <= targets, found - targets


def test_every_yaml_file_can_be_read() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.yml", "*.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = listed.stdout.split()
    assert ".github/workflows/ci.yml" in files
    for file in files:
        # mkdocs' configuration has tags that name Python functions.
        text = re.sub(r"!!python/\S+", "", (ROOT / file).read_text(encoding="utf-8"))
        assert isinstance(yaml.safe_load(text), dict), file


def test_ci_calls_the_script_with_least_permissions() -> None:
    workflow = read(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [step.get("run") for step in steps]
    for step in steps:
        # A major version or a commit.
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "a/b@v1"))


def test_hooks_use_the_ruff_of_the_development_environment() -> None:
    hooks = {
        hook["id"]: hook
        for repo in read(".pre-commit-config.yaml")["repos"]
        for hook in repo["hooks"]
    }
    for name in ("ruff-check", "ruff-format"):
        assert hooks[name]["entry"].startswith(".venv/bin/ruff ")
    pattern = hooks["no-make-block-ptr"]["entry"]
    assert re.search(pattern, "p = tl.make_block_ptr(x)")
    for path in (ROOT / "kernels").rglob("*.py"):
        assert not re.search(pattern, path.read_text(encoding="utf-8")), path
