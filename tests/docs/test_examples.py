"""Every example of the README and the documentation: Python code runs, shell commands are real."""

import contextlib
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
# Pages whose commands run.
RUN = (README, ROOT / "docs" / "quickstart.md")
QUICK_START = ROOT / "docs" / "quickstart.md"

# The checkpoint behind each directory that examples load, with changes to its config.
DIRECTORIES: dict[str, tuple[str, dict[str, Any]]] = {
    "out": ("BertForMaskedLM", {}),
    "minilm": ("BertModel", {}),
    "small": ("BertModel", {}),
    "classifier": ("BertForSequenceClassification", {}),
    "reranker": ("BertForSequenceClassification", {"num_labels": 1}),
    "fill-mask": ("BertForMaskedLM", {}),
    "text-classification": ("BertForSequenceClassification", {}),
    "token-classification": ("BertForTokenClassification", {}),
    "question-answering": ("BertForQuestionAnswering", {}),
    "feature-extraction": ("BertModel", {}),
    "next-sentence-prediction": ("BertForNextSentencePrediction", {}),
    "multiple-choice": ("BertForMultipleChoice", {}),
    "pretraining": ("BertForPreTraining", {}),
    "text-generation": ("BertLMHeadModel", {}),
    "sparse-embedding": ("BertForMaskedLM", {"task": "sparse-embedding"}),
    "splade": ("BertForMaskedLM", {"task": "sparse-embedding"}),
}
# Models that examples export, as local folders of that name: the hub itself has its own tests.
MODELS = {
    "google-bert/bert-base-uncased": "BertForMaskedLM",
    "sentence-transformers/all-MiniLM-L6-v2": "BertModel",
    "uncased_L-12_H-768_A-12": "BertForMaskedLM",
}

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason` says why it cannot be run here, if so."""

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str) -> list[Block]:
    """A page's blocks in a language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("code")), language, m["code"], m["reason"])
        for m in FENCE.finditer(text)
        if m["language"] == language
    ]


PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]
COMMANDS = [
    (block.name, page, line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.code.splitlines()
]


@pytest.fixture(scope="module")
def folder(
    make_artifact: Callable[..., Path],
    make_checkpoint: Callable[..., Path],
    colbert_artifact: Path,
    xlm_roberta_artifact: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A working directory with an artifact for every name that the examples load."""
    path = tmp_path_factory.mktemp("examples")
    for name, (class_name, changes) in DIRECTORIES.items():
        (path / name).symlink_to(make_artifact(class_name, **changes))
    for name in ("colbert", "multi-vector-embedding"):
        (path / name).symlink_to(colbert_artifact)
    (path / "xlmr").symlink_to(xlm_roberta_artifact)
    for name, class_name in MODELS.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).symlink_to(make_checkpoint(class_name))
    return path


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page share their names, as they do for a reader."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with _closed(names):
        for block in blocks(page, "python"):
            # Its lines are where they are on the page, for tracebacks.
            code = compile("\n" * block.line + block.code, str(page), "exec")
            if block.reason is None:
                exec(code, names)


@contextlib.contextmanager
def _closed(names: dict[str, Any]) -> Iterator[None]:
    """Close the runtimes that examples leave open."""
    import bertrt

    try:
        yield
    finally:
        for value in names.values():
            if isinstance(value, bertrt.Runtime):
                value.close()


def test_examples_load_every_head() -> None:
    from bertrt.heads import HEADS

    tasks = (ROOT / "docs" / "guides" / "tasks.md").read_text(encoding="utf-8")
    loaded = set(re.findall(r'bertrt\.load\("([\w-]+)"\)', tasks))
    assert loaded == set(HEADS) - {"zero-shot-classification"}
    assert "candidate_labels=" in tasks


def test_all_blocks_are_found() -> None:
    """Each fence of a page opens a block that these tests see."""
    for language in ("python", "sh"):
        found = sum(len(blocks(page, language)) for page in PAGES)
        fences = sum(page.read_text(encoding="utf-8").count(f"```{language}\n") for page in PAGES)
        assert found == fences > 20


def test_skipped_blocks_give_a_reason() -> None:
    reasons = [b.reason for page in PAGES for b in blocks(page, "python") if b.reason]
    assert sorted(set(reasons)) == [
        "make integrations runs it",
        "make scale runs it",
        "needs a GPU",
        "needs another runtime",
        "the search takes minutes on a model of real size",
    ]


@pytest.mark.parametrize(("name", "page", "command"), COMMANDS)
def test_commands(
    name: str, page: Path, command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands of the README and the quick start run, except the int8 search; others are parsed."""
    words = shlex.split(command, comments=True)
    match words[0]:
        case "make":
            assert _targets(words) <= set(re.findall(r"^([\w-]+):", _makefile(), re.MULTILINE))
        case "pip":
            extras = re.findall(r"\.\[([\w,]+)\]", command)
            assert extras
            assert set(",".join(extras).split(",")) <= set(_project()["optional-dependencies"])
        case "python":
            assert words[1] == "-m"
            assert ROOT.joinpath(*words[2].split(".")).with_suffix(".py").exists()
        case "python3":
            assert words[1] == "-P"
            assert (ROOT / words[2]).exists()
        case "pytest":
            assert words[1:] == ["-m", "gpu"]
        case "bertrt" | "echo" if page in RUN and "int8" not in words:
            _run(command, folder)
        case "bertrt":
            _parse(words[1:], monkeypatch)
        case "echo":
            _parse(words[words.index("bertrt") + 1 :], monkeypatch)
        case _:
            raise AssertionError(f"{name}: nothing checks {command!r}")


def _targets(words: list[str]) -> set[str]:
    return {word for word in words[1:] if "=" not in word}


def _makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def _project() -> dict[str, Any]:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(data["project"])


@functools.cache
def _run(command: str, folder: Path) -> None:
    """Run a command in a folder; once, where two pages have it."""
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for output in re.findall(r"--output (\S+)", command):
        path = folder / output
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
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


def _parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command line as bertrt does, without running it."""
    from bertrt import cli

    for module in cli.COMMANDS:
        monkeypatch.setattr(module, "run", lambda _: 0)
    try:
        status: Any = cli.main(arguments)
    except SystemExit as exit:  # --help and --version exit with 0, wrong usage with 2
        status = exit.code
    assert status in (0, None)


def test_quick_start_is_two_commands() -> None:
    """They are the same on both pages, and CI calls the same test command."""
    for page in (README, QUICK_START):
        lines = [line for block in blocks(page, "sh") for line in block.code.splitlines()]
        assert lines[:2] == ["make demo", "make test"], page
    assert "make test" in (ROOT / ".ci" / "run").read_text()
