"""A tritonserver with a model of each head, `bertrt serve` with the same artifacts, and answers.

Runs in an environment with bertrt's runtime, tritonclient and NVIDIA's wheel. The environment
variable WORK is the folder that make_repository.py wrote, and BERTRT the command.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

WORK = Path(os.environ["WORK"])
# Triton's ONNX Runtime backend is not in the wheel. This does in Python what it does.
GRAPH = Path(__file__).with_name("graph_model.py")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def prepare(repository: Path) -> Path:
    """Return a copy of a repository that the wheel's server can run."""
    copy = WORK / "served"
    shutil.copytree(repository, copy)
    for config in copy.glob("*/config.pbtxt"):
        text = config.read_text(encoding="utf-8")
        if 'backend: "onnxruntime"' in text:
            text = text.replace('"onnxruntime"', '"python"')
            file = re.search(r'default_model_filename: ("[^"]+")\n', text)
            assert file is not None
            # The Python backend wants its own file there, and passes parameters on.
            parameter = f'parameters {{ key: "graph" value {{ string_value: {file[1]} }} }}\n'
            config.write_text(text.replace(file[0], parameter), encoding="utf-8")
            shutil.copy(GRAPH, config.with_name("1") / "model.py")
    for code in copy.glob("*/1/model.py"):
        # The wheel's stub searches only the packages of the Python that it was linked with.
        paths = [path for path in sys.path if path.endswith("site-packages")]
        paths.append(str(Path(__file__).parents[2]))
        text = code.read_text(encoding="utf-8")
        code.write_text(f"import sys\n\nsys.path[:0] = {paths!r}\n\n{text}", encoding="utf-8")
    return copy


@pytest.fixture(scope="session")
def triton() -> Iterator[SimpleNamespace]:
    """A running tritonserver: the addresses `http` and `grpc`."""
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backends = WORK / "backends"
    shutil.copytree(wheel / "backends", backends)
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    (backends / "python" / stub.name).write_bytes(stub.read_bytes())
    (backends / "python" / stub.name).chmod(0o755)
    server = WORK / "tritonserver"
    server.write_bytes((wheel / "bin" / "tritonserver").read_bytes())
    server.chmod(0o755)
    http, grpc = free_ports(2)
    libraries = [
        Path(spec.origin).parents[1] / "nvidia_pytriton.libs",
        sysconfig.get_config_var("LIBDIR"),
    ]
    log = WORK / "tritonserver.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                server,
                f"--model-repository={prepare(WORK / 'models')}",
                f"--backend-directory={backends}",
                f"--http-port={http}",
                f"--grpc-port={grpc}",
                "--http-address=127.0.0.1",
                "--grpc-address=127.0.0.1",
                "--allow-metrics=false",
                "--disable-auto-complete-config",
            ],
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{http}/v2/health/ready", log)
        yield SimpleNamespace(http=f"127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}")
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when a server is ready; fail if it ends."""
    while True:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-8000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)


@pytest.fixture(scope="session")
def bertrt_server() -> Iterator[SimpleNamespace]:
    """`bertrt serve` with the same artifacts: the address `http`."""
    artifacts = sorted((WORK / "artifacts").iterdir())
    command = [os.environ["BERTRT"], "serve", "--json", "--threads", "1", "--port", "0"]
    process = subprocess.Popen([*command, *map(str, artifacts)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    yield SimpleNamespace(http=re.sub("^http://", "", url))
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """For each model its texts, their pairs, and the runtime's answers."""
    found: dict[str, Any] = json.loads((WORK / "expected.json").read_text(encoding="utf-8"))
    return found
