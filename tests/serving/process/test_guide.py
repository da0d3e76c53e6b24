"""The guide's commands run against a server, and the page at / works in a browser."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "server.md"
PORT = "localhost:8080"


@pytest.fixture
def port(serve: Callable[..., Any], make_artifact: Callable[..., Path]) -> int:
    """The port of a server with the guide's models."""
    reranker = make_artifact("BertForSequenceClassification", num_labels=1)
    process = serve(f"minilm={make_artifact('BertModel')}", f"reranker={reranker}")
    process.wait_until_ready()
    return int(process.port)


def test_every_command(port: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 3
    for command in commands:
        words = shlex.split(command.replace(PORT, f"127.0.0.1:{port}"))
        assert words[0] == "curl"
        done = subprocess.run(
            [*words, "--fail-with-body"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout)


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
