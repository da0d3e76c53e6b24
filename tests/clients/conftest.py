"""The server that the clients talk to, and the answers that they have to get.

Runs in the environments of the clients, so nothing imports bertrt: the environment variable
BERTRT is its command, and ARTIFACTS the folder that make_artifacts.py wrote.
"""

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# InferenceClient refuses also this machine's own addresses if it is told to stay offline.
os.environ.pop("HF_HUB_OFFLINE", None)
# No client needs anything else: haystack and litellm would call home.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

pytest.register_assert_rewrite("compare")

ARTIFACTS = Path(os.environ["ARTIFACTS"])
MODELS = ("embedder", "reranker", "sentiment", "nli", "tagger", "filler", "reader", "writer")
KEY = "key-of-these-tests"


class Server:
    """`bertrt serve` as a process, which needs `KEY`.

    Attributes:
        url: where it listens, without a slash at the end.
        process: the process.
    """

    def __init__(self, *arguments: str) -> None:
        command = [os.environ["BERTRT"], "serve", "--json", "--threads", "1", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BERTRT_API_KEY": KEY},
        )
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["url"]

    def post(self, path: str, body: Any) -> Any:
        """Post JSON, and return the answer's JSON."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def waiting(self) -> int:
        """Return how many texts wait."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.split()[-1] for line in lines if line.startswith("bertrt_queue_texts{")]
        return int(sum(map(float, counts)))


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Server]]:
    """A factory: names of models, and options of `bertrt serve`, to a server."""
    with ExitStack() as stack:

        def start(*names: str, options: tuple[str, ...] = ()) -> Server:
            server = Server(*(str(ARTIFACTS / name) for name in names), *options)
            stack.callback(server.process.communicate)
            stack.callback(server.process.terminate)
            return server

        yield start


@pytest.fixture(scope="session")
def url(serve: Callable[..., Server]) -> str:
    """The address of a server of all models."""
    return serve(*MODELS).url


@pytest.fixture(scope="session")
def key() -> str:
    """The server's API key."""
    return KEY


@pytest.fixture
def busy(serve: Callable[..., Server]) -> Iterator[str]:
    """The address of a server whose queue is full for about a second."""
    server = serve("embedder", options=("--max-waiting-texts", "2048"))
    body = {"inputs": ["cat dog sun " * 60] * 2048}
    work = threading.Thread(target=server.post, args=("/embed", body))
    work.start()
    while server.waiting() < 1000:
        assert work.is_alive(), "the queue was never full"
        time.sleep(0.002)
    yield server.url
    work.join()


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """The runtime's answers, by the names that make_artifacts.py gives them."""
    answers: dict[str, Any] = json.loads((ARTIFACTS / "expected.json").read_text(encoding="utf-8"))
    return answers
