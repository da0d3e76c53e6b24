"""The life of the server: it loads, is ready, drains and stops."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import ArtifactError
from bertrt.serving.loading import open_model
from bertrt.serving.models import Model
from bertrt.serving.options import Options

TEXTS = {"inputs": ["Mary lives in London, by the river.", "a"]}


def test_the_command_serves_until_it_is_told_to_stop(
    serve: Any, ask: Any, embedder: Path, classifier: Path
) -> None:
    process = serve(embedder, f"nli={classifier}")
    line = process.wait_until_ready()
    assert line["models"] == [embedder.name, "nli"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", line["url"])
    for path in ("/livez", "/readyz", "/health", "/models/nli/health"):
        assert ask(process.port, "GET", path).status == 200

    answer = ask(process.port, "POST", "/embed", TEXTS)
    assert answer.status == 200
    with bertrt.load(embedder, threads=1) as runtime:
        expected = runtime.embed(TEXTS["inputs"], normalize=True)
    np.testing.assert_allclose(np.array(answer.json), expected, atol=1e-6)

    # A date, and nothing about the software.
    assert "date" in answer.headers
    assert "server" not in answer.headers
    process.stop()
    assert process.wait() == (0, "")


@pytest.mark.parametrize("delay", [0, 0.5])
def test_sigterm_under_load_loses_no_request(
    serve: Any, ask: Any, embedder: Path, delay: float
) -> None:
    process = serve(embedder, "--drain-delay", delay)
    process.wait_until_ready()
    answered, failed = [], []
    under_load = threading.Barrier(5)

    def send_until_told_to_stop() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
        try:
            for number in range(100_000):
                answer = ask(process.port, "POST", "/embed", TEXTS, connection=connection)
                answered.append(answer.status)
                if answer.headers.get("connection") == "close":
                    return
                if number == 3:
                    under_load.wait(30)
            failed.append("the server never asked to close the connection")
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=send_until_told_to_stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    under_load.wait(30)
    process.stop()
    for thread in threads:
        thread.join()
    assert process.wait() == (0, "")
    assert failed == []
    assert set(answered) == {200}


def test_while_it_drains_it_answers_but_is_not_ready(serve: Any, ask: Any, embedder: Path) -> None:
    process = serve(embedder, "--drain-delay", "2")
    process.wait_until_ready()
    with socket.create_connection(("127.0.0.1", process.port), timeout=20):
        process.stop()
        while (answer := ask(process.port, "GET", "/readyz")).status == 200:
            pass
        assert answer.status == 503
        assert answer.headers["connection"] == "close"
        assert ask(process.port, "GET", "/livez").status == 200
        assert ask(process.port, "POST", "/embed", TEXTS).status == 200
        assert b"bertrt_ready 0\n" in ask(process.port, "GET", "/metrics").body
    assert process.wait() == (0, "")
    with pytest.raises(ConnectionRefusedError):
        ask(process.port, "GET", "/livez")


def test_a_second_signal_ends_the_process_at_once(serve: Any, embedder: Path) -> None:
    process = serve(embedder, "--drain-delay", "100")
    process.wait_until_ready()
    process.process.send_signal(signal.SIGINT)
    while not _ended(process.process):
        process.stop()
    assert process.wait()[0] == 1


def _ended(process: "subprocess.Popen[str]") -> bool:
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        return False
    return True


class Slow(Model):
    """A model that does not answer."""

    asked = threading.Event()

    async def answer(self, *_: Any, **__: Any) -> Any:
        import asyncio

        Slow.asked.set()
        await asyncio.sleep(1000)


def test_what_takes_too_long_is_cut(start: Any, ask: Any, embedder: Path) -> None:
    model = open_model("emb", embedder, Options(threads=1))
    model.__class__ = Slow
    Slow.asked.clear()
    server = start([lambda: model], drain_timeout=0.2)
    answers: list[Any] = []
    client = threading.Thread(
        target=lambda: answers.append(ask(server.port, "POST", "/embed", TEXTS))
    )
    client.start()
    assert Slow.asked.wait(20)
    server.stop()
    client.join()
    assert (answers[0].status, answers[0].headers["connection"]) == (503, "close")
    assert server.wait() is True


def test_a_body_that_does_not_come_is_cut(start: Any, read_all: Any) -> None:
    server = start(drain_timeout=0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\ncontent-length: 100\r\n\r\n{")
        while not server.listener._state.tasks:
            pass
        server.stop()
        assert read_all(connection).startswith(b"HTTP/1.1 503 ")
    assert server.wait() is True


def test_unused_connections_do_not_keep_it(start: Any) -> None:
    server = start()
    with (
        socket.create_connection(("127.0.0.1", server.port)),
        socket.create_connection(("127.0.0.1", server.port)) as other,
    ):
        other.sendall(b"POST /em")
        server.stop()
        assert server.wait() is False


def test_while_models_are_loaded_it_only_lives(start: Any, ask: Any, embedder: Path) -> None:
    loading, go = threading.Event(), threading.Event()

    def load() -> Model:
        loading.set()
        assert go.wait(60)
        return open_model("emb", embedder, Options(threads=1))

    server = start([load], wait=False)
    try:
        assert loading.wait(20)
        assert ask(server.port, "GET", "/livez").status == 200
        for method, path in [
            ("GET", "/readyz"),
            ("GET", "/health"),
            ("GET", "/"),
            ("GET", "/info"),
            ("GET", "/v1/models"),
            ("POST", "/embed"),
            ("POST", "/v1/embeddings"),
            ("POST", "/models/emb/embed"),
        ]:
            answer = ask(server.port, method, path, None if method == "GET" else TEXTS)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    finally:
        go.set()
    assert server.ready.wait(60)
    assert ask(server.port, "POST", "/embed", TEXTS).status == 200


def test_it_can_be_stopped_while_models_are_loaded(start: Any, embedder: Path) -> None:
    loading, go = threading.Event(), threading.Event()
    opened = []

    def load() -> Model:
        loading.set()
        assert go.wait(60)
        opened.append(open_model("emb", embedder, Options(threads=1)))
        return opened[-1]

    server = start([load, load], wait=False)
    assert loading.wait(20)
    server.stop()
    go.set()
    assert server.wait() is False
    assert not server.ready.is_set()
    assert len(opened) == 1
    with pytest.raises(bertrt.BertrtError, match="closed"):
        opened[0].runtime(["a"])


def test_a_model_that_cannot_be_loaded_ends_it(start: Any, embedder: Path, tmp_path: Path) -> None:
    opened = []

    def load() -> Model:
        opened.append(open_model("emb", embedder, Options(threads=1)))
        return opened[-1]

    server = start([load, lambda: open_model("bad", tmp_path, Options(threads=1))], wait=False)
    assert isinstance(server.wait(), ArtifactError)
    assert not server.ready.is_set()
    with pytest.raises(bertrt.BertrtError, match="closed"):
        opened[0].runtime(["a"])


@pytest.mark.parametrize("damage", ["missing", "empty", "changed"])
def test_one_bad_artifact_is_status_2(
    serve: Any, embedder: Path, tmp_path: Path, damage: str
) -> None:
    bad = tmp_path / "bad"
    if damage == "empty":
        bad.mkdir()
    elif damage == "changed":
        shutil.copytree(embedder, bad)
        with (bad / "model.onnx").open("ab") as file:
            file.write(b"x")
    process = serve(embedder, bad)
    status, errors = process.wait()
    assert status == 2
    assert errors.startswith("bertrt: error: ")
    assert "bad" in errors
    assert errors.count("\n") == 1
    assert process.printed == ""


def test_api_keys(serve: Any, ask: Any, embedder: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first-key\n\n  second-key \n")
    process = serve(
        embedder, "--api-key-file", file, environment={"BERTRT_API_KEY": "third-key\nfourth-key"}
    )
    process.wait_until_ready()
    for key in ("first-key", "second-key", "third-key", "fourth-key"):
        for headers in ({"authorization": f"Bearer {key}"}, {"authorization": key}):
            assert ask(process.port, "POST", "/embed", TEXTS, headers).status == 200
        assert ask(process.port, "POST", "/embed", TEXTS, {"x-api-key": key}).status == 200
    for headers in (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer first-ke"},
        {"authorization": "Bearer first-key2"},
        {"authorization": "Basic first-key"},
        {"x-api-key": "third-key\tfourth-key"},
    ):
        answer = ask(process.port, "POST", "/embed", TEXTS, headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"key" not in answer.body.replace(b"API key", b"")
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert ask(process.port, "GET", path).status == 200
    assert ask(process.port, "GET", "/info").status == 401
    process.stop()
    assert process.wait() == (0, "")


@pytest.mark.parametrize("keys", ["", "\n \n", "two words\n", "café\n"], ids=range(4))
def test_unusable_keys(serve: Any, embedder: Path, tmp_path: Path, keys: str) -> None:
    file = tmp_path / "keys"
    file.write_text(keys, encoding="utf-8")
    status, errors = serve(embedder, "--api-key-file", file).wait()
    assert status == 2
    assert "API key" in errors
    assert not any(word in errors for word in ("two", "café", "words"))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_no_time_to_answer(serve: Any, embedder: Path, seconds: str) -> None:
    status, errors = serve(embedder, f"--request-timeout={seconds}").wait()
    assert status == 2
    assert f"argument --request-timeout: '{seconds}' " in errors


def test_names_given_twice(serve: Any, embedder: Path) -> None:
    status, errors = serve(embedder, f"{embedder.name}={embedder}").wait()
    assert status == 2
    assert f"the name '{embedder.name}' is given twice" in errors


def test_a_port_that_is_taken(serve: Any, embedder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = serve(embedder, "--port", port).wait()
    assert status == 1
    assert errors.startswith(f"bertrt: error: cannot listen on 127.0.0.1 port {port}: ")


@pytest.mark.parametrize(
    ("host", "key", "warns"),
    [("0.0.0.0", "", True), ("0.0.0.0", "secret", False), ("127.0.0.1", "", False)],
)
def test_warning_about_an_open_server(
    serve: Any, embedder: Path, host: str, key: str, warns: bool
) -> None:
    environment = {"BERTRT_API_KEY": key} if key else {}
    process = serve(embedder, "--host", host, environment=environment)
    process.wait_until_ready()
    process.stop()
    status, errors = process.wait()
    assert status == 0
    assert ("warning: anyone who can reach 0.0.0.0 can use this server" in errors) is warns


def test_limits_of_the_command(serve: Any, ask: Any, embedder: Path) -> None:
    process = serve(
        embedder, "--max-inputs", 2, "--max-body", 500, "--no-auto-truncate", "--max-connections", 9
    )
    process.wait_until_ready()
    assert ask(process.port, "POST", "/embed", {"inputs": ["a"] * 3}).status == 422
    assert ask(process.port, "POST", "/embed", {"inputs": "a" * 500}).status == 413
    assert ask(process.port, "GET", "/info").json["auto_truncate"] is False
    assert ask(process.port, "GET", "/info").json["max_client_batch_size"] == 2


def test_line_when_it_is_ready(embedder: Path, bertrt_serve_line: Any) -> None:
    name = embedder.name
    assert re.fullmatch(
        rf"ready on http://127\.0\.0\.1:\d+ with {name}, b\n", bertrt_serve_line(embedder)
    )


@pytest.fixture
def bertrt_serve_line() -> Callable[[Path], str]:
    """Return the line that the command prints without --json, for two names of an artifact."""
    import sys

    def line(artifact: Path) -> str:
        command = [sys.executable, "-P", "-m", "bertrt", "serve", "--port", "0", "--threads", "1"]
        process = subprocess.Popen(
            [*command, artifact, f"b={artifact}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            return process.stdout.readline()
        finally:
            process.terminate()
            process.communicate()

    return line


def test_nothing_of_a_text_is_logged(serve: Any, ask: Any, embedder: Path) -> None:
    process = serve(embedder)
    process.wait_until_ready()
    for body in (
        {"inputs": "my secret", "truncate": "my secret"},
        b'{"my secret',
        {"my": "secret"},
    ):
        assert b"secret" not in ask(process.port, "POST", "/embed", body).body
    assert b"secret" not in ask(process.port, "GET", "/my-secret").body
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(b"my secret\r\n\r\n")
        assert b"secret" not in connection.recv(1000)
    assert b"secret" not in ask(process.port, "GET", "/metrics").body
    process.stop()
    assert process.wait() == (0, "")


def test_https(serve: Any, embedder: Path, tmp_path: Path) -> None:
    import ssl

    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(
        command.split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    process = serve(embedder, "--tls-cert", cert, "--tls-key", key)
    assert process.wait_until_ready()["url"].startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    connection = http.client.HTTPSConnection("127.0.0.1", process.port, context=context)
    connection.request("POST", "/embed", json.dumps(TEXTS))
    assert connection.getresponse().status == 200
    connection.close()
    process.stop()
    assert process.wait() == (0, "")
    for wrong in (["--tls-cert", cert], ["--tls-cert", key, "--tls-key", cert]):
        status, errors = serve(embedder, *wrong).wait()
        assert (status, "certificate" in errors or "--tls-key" in errors) == (2, True)


def test_a_missing_extra_is_one_sentence(bertrt_without: Any, embedder: Path) -> None:
    done = bertrt_without("uvicorn", "serve", embedder)
    assert done.returncode == 1
    assert "pip install 'bertrt[serve]'" in done.stderr
    assert done.stderr.count("\n") == 1
