"""The guide's commands run against a server, and the page at / works in a browser."""

import contextlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.cli import main

GUIDES = Path(__file__).parents[3] / "docs" / "guides"
GUIDE = GUIDES / "server.md"
PAGES = [GUIDE, *sorted(GUIDES.glob("coming-from-*.md"))]
# What is exported, as local folders of these names.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sentence-transformers/all-MiniLM-L6-v2": ("BertModel", {}),
    "cross-encoder/ms-marco-MiniLM-L6-v2": ("BertForSequenceClassification", {"num_labels": 1}),
}
MODULES = "sentence_transformers.models"


def lines(page: Path, language: str) -> list[list[str]]:
    """The commands of a page's blocks in a language, each as words."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture
def folder(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, with the checkpoints that the pages export."""
    for name, (class_name, changes) in CHECKPOINTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copytree(make_checkpoint(class_name, **changes), tmp_path / name)
    vectors = tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2"
    for place, kind in enumerate(("Transformer", "Pooling", "Normalize")):
        (vectors / f"{place}_{kind}").mkdir()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, (path, kind) in enumerate(kinds)
    ]
    (vectors / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (vectors / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def port(serve: Callable[..., Any], make_artifact: Callable[..., Path]) -> int:
    """The port of a server with the guide's models."""
    reranker = make_artifact("BertForSequenceClassification", num_labels=1)
    process = serve(f"minilm={make_artifact('BertModel')}", f"reranker={reranker}")
    process.wait_until_ready()
    return int(process.port)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command(
    page: Path,
    folder: Path,
    serve: Callable[..., Any],
    make_artifact: Callable[..., Path],
) -> None:
    """A page's exports run, then its server, and then its requests."""
    export(page)
    for name, (class_name, changes) in zip(
        ("minilm", "reranker"), CHECKPOINTS.values(), strict=True
    ):
        if not (folder / name).exists():
            (folder / name).symlink_to(make_artifact(class_name, **changes))
    (command,) = [words for words in lines(page, "sh") if words[:2] == ["bertrt", "serve"]]
    process = serve(*command[2:], "--port", "0")
    process.wait_until_ready()
    requests = lines(page, "bash")
    assert len(requests) > 1
    for words in requests:
        curl(words, process.port)


def curl(words: list[str], port: int) -> None:
    """Run a page's request with this port in place of the page's; it has to succeed."""
    assert words[0] == "curl"
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    words = [re.sub(r"localhost:\d+", f"127.0.0.1:{port}", word) for word in words]
    done = subprocess.run([*words, "--fail-with-body"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout)


def export(page: Path) -> None:
    """Run a page's exports."""
    for words in lines(page, "sh"):
        if words[:2] == ["bertrt", "export"]:
            assert main(words[1:]) == 0


def test_every_file_of_fastapi(folder: Path, ask: Callable[..., Any]) -> None:
    """sentence-transformers, the batcher and the mounted server give the same vectors."""
    page = GUIDES / "coming-from-fastapi.md"
    export(page)
    blocks = re.findall(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    before, batched, mounted = [block for block in blocks if "app = FastAPI(" in block]
    texts = ["A cat sat.", "The sun is out.", "a"]
    with uvicorn(folder, before) as port:
        vectors = ask(port, "POST", "/vectors", {"texts": texts}).json["vectors"]
    assert np.array(vectors).shape == (3, 32)
    with uvicorn(folder, batched) as port:
        close(ask(port, "POST", "/vectors", {"texts": texts}).json["vectors"], vectors)
    with uvicorn(folder, mounted) as port:
        close(ask(port, "POST", "/bert/embed", {"inputs": texts}).json, vectors)
        answer = ask(port, "POST", "/bert/v1/embeddings", {"input": texts}).json
        close([one["embedding"] for one in answer["data"]], vectors)
        assert ask(port, "GET", "/bert/health").status == 200
        assert ask(port, "GET", "/embed").status == 404


@contextlib.contextmanager
def uvicorn(folder: Path, code: str) -> Iterator[int]:
    """Run a file app.py with uvicorn; gives its port. It has to end well."""
    (folder / "app.py").write_text(code, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(number)],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[number],
        )
        assert process.stderr is not None
        started = any("startup complete" in line for line in process.stderr)
        try:
            assert started
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=60)
    assert "shutdown complete" in errors, errors


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_options_that_a_page_names(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second column of its table, and its text, have options that there are."""
    for command in ("serve", "export"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    text = page.read_text(encoding="utf-8")
    cells = [row.split(" | ")[1] for row in re.findall(r"^\| `--.*", text, re.MULTILINE)]
    assert cells or page.stem == "coming-from-fastapi"
    for cell in cells:
        assert set(re.findall(r"--[a-z][a-z-]+", cell)) <= known, cell


def test_every_route_that_is_named(port: int, ask: Callable[..., Any]) -> None:
    named = re.findall(r"`(/[\w/]*)`", GUIDE.read_text(encoding="utf-8").split("## Coming")[0])
    assert len(named) > 15
    for path in named:
        status = {ask(port, method, path, {}).status for method in ("GET", "POST")}
        if "NAME" not in path:
            assert status != {404}, path


def test_the_page_in_a_browser(port: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
            "--dump-dom",
            f"http://127.0.0.1:{port}/",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    page = done.stdout
    assert re.search(r'<span class="state ready"[^>]*>ready</span>', page), done.stderr[-500:]
    for name in ("minilm", "reranker"):
        assert f"<b>{name}</b>" in page
        assert f'<option value="{name}">' in page
    assert "tokens a second" in page
    assert "Refused to" not in done.stderr
