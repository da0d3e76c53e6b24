"""Every example in the README, run as it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

# The checkpoint behind each directory that the Python examples load.
DIRECTORIES = {
    "out": "BertForMaskedLM",
    "fill-mask": "BertForMaskedLM",
    "text-classification": "BertForSequenceClassification",
    "token-classification": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
    "feature-extraction": "BertModel",
    "next-sentence-prediction": "BertForNextSentencePrediction",
    "multiple-choice": "BertForMultipleChoice",
    "pretraining": "BertForPreTraining",
    "text-generation": "BertLMHeadModel",
}
HUB_IDS = {
    "google-bert/bert-base-uncased": "BertForMaskedLM",
    "sentence-transformers/all-MiniLM-L6-v2": "BertModel",
}
# Run by CI itself, with everything that they install.
BY_CI = ("make demo\n", "make test\n")
# Needs the peers, in an environment of their own.
BY_HAND = ("make bench-quick\n",)


@pytest.fixture(scope="module")
def folder(
    make_artifact: Callable[..., Path],
    make_checkpoint: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A working directory with an artifact for every name that the examples load."""
    path = tmp_path_factory.mktemp("readme")
    for name, class_name in DIRECTORIES.items():
        (path / name).symlink_to(make_artifact(class_name))
    # The examples' hub ids, as local folders of that name: the hub itself has its own tests.
    for id, class_name in HUB_IDS.items():
        (path / id).parent.mkdir()
        (path / id).symlink_to(make_checkpoint(class_name))
    return path


def test_python_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    examples = [code for language, code in BLOCKS if language == "python"]
    assert len(examples) >= 11
    for code in examples:
        exec(compile(code, "README.md", "exec"), names)
    assert (folder / "exported" / "bertrt.json").exists()


def test_every_head_has_an_example() -> None:
    loaded = set(re.findall(r'bertrt\.load\("([\w-]+)"\)', README))
    assert loaded == set(DIRECTORIES)


@pytest.mark.parametrize(
    "command",
    [
        line
        for language, code in BLOCKS
        if language == "sh" and code not in BY_CI + BY_HAND and "pip install" not in code
        for line in code.splitlines()
    ],
)
def test_shell_examples(folder: Path, command: str) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    if "--output out" in command:
        (folder / "out").unlink()
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_install_lines_name_real_extras() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used = re.findall(r"pip install '\.\[([\w,]+)\]'", README)
    assert used
    for extras in used:
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_two_commands() -> None:
    """The quick start is these two, and CI calls the same test command."""
    assert [code for language, code in BLOCKS[:2] if language == "sh"] == list(BY_CI)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
