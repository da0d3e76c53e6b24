"""The contenders for a GPU, as far as they can be tested without one."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import run
from benchmarks.contenders import pytorch_cuda, registry
from benchmarks.contenders.cuda_graphs import CudaGraphModule
from benchmarks.contenders.ort import OrtModel
from benchmarks.contenders.pytorch import TorchModel, load_module
from benchmarks.contenders.unpadded import UnpaddedModel
from benchmarks.data.models import Model
from benchmarks.gpu.visit import fake_cuda
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import check
from benchmarks.harness.machine import describe_gpu
from benchmarks.harness.worker import Worker
from benchmarks.harness.worker_process import RefusedError
from benchmarks.workloads.selection import Step

GPU_NAMES = registry.names_on("cuda")
LENGTHS = (7, 1, 12, 3)


@pytest.fixture
def model(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Model:
    """A tiny model of the benchmark: a folder with a checkpoint for each task."""
    (tmp_path / "embeddings").symlink_to(make_checkpoint("BertModel"))
    return Model("tiny", str(tmp_path), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=20)


@pytest.fixture
def inputs() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    return random.integers(5, 20, mask.shape) * mask, mask, random.integers(0, 2, mask.shape) * mask


@pytest.fixture
def expected(model: Model, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    module = load_module(model, "embeddings", attention="eager")
    return TorchModel(module, model, "embeddings").run(*inputs)


def attend(
    query: Any, key: Any, value: Any, offsets: Any, same: Any, longest: int, _: int
) -> torch.Tensor:
    """Compute what `varlen_attn` computes, sequence by sequence."""
    assert torch.equal(offsets, same)
    assert longest == max(LENGTHS)
    parts = []
    for begin, end in itertools.pairwise(offsets):
        q, k, v = (part[begin:end].transpose(0, 1) for part in (query, key, value))
        parts.append(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1))
    return torch.cat(parts)


def test_unpadded_answers_equal_padded_ones(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray
) -> None:
    module = load_module(model, "embeddings", attention="sdpa")
    unpadded = UnpaddedModel(module, model, "embeddings", attend, device="cpu")
    np.testing.assert_allclose(unpadded.run(*inputs), expected, atol=1e-6)


def test_float16_answers_pass_as_float16(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray
) -> None:
    module = load_module(model, "embeddings", attention="eager", dtype="float16")
    answers = TorchModel(module, model, "embeddings").run(*inputs)
    assert answers.dtype == np.float32
    assert check(answers, expected, "float16").wrong is None
    assert np.abs(answers - expected).max() > 1e-5
    wrong = expected + 0.1 * np.random.default_rng(1).standard_normal(expected.shape)
    assert check(wrong.astype(np.float32), expected, "float16").wrong


def test_the_triton_contender_answers_correctly(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray, tmp_path: Path
) -> None:
    contender = registry.find("bertrt_cuda")
    contender.prepare(model, "embeddings", tmp_path)
    loaded = contender.load(model, "embeddings", tmp_path, 1)
    assert check(loaded.run(*inputs), expected, "float16").wrong is None


# The tool needs PyTorch's older exporter, which warns of its deprecation.
@pytest.mark.filterwarnings("ignore")
def test_the_onnx_runtime_graph_pools_in_float32(
    model: Model, inputs: tuple[np.ndarray, ...], expected: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "prepared" / "cuda_ort"
    folder.mkdir(parents=True)
    registry.find("cuda_ort").prepare(model, "embeddings", folder)
    # The CPU provider has no float16 operators: it computes in float32 between roundings.
    answers = OrtModel(folder / "model.onnx", model, "embeddings", 1).run(*inputs)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(answers, axis=1), 1, atol=1e-6)
    assert check(answers, expected, "float16").wrong is None


def test_varied_shapes_use_run_varied() -> None:
    class Compiled:
        def run(self, *inputs: np.ndarray) -> np.ndarray:
            raise AssertionError("compiled again")

        def run_varied(self, ids: np.ndarray, *_: np.ndarray) -> np.ndarray:
            return ids[:, :1]

    worker = Worker(SimpleNamespace())  # type: ignore[arg-type]
    worker._loaded = Compiled()  # type: ignore[assignment]
    batches = [(np.full((2, width), width),) * 3 for width in (3, 5)]
    assert worker.run_each(batches).ravel().tolist() == [3, 3, 5, 5]
    assert len(worker.time_each(batches, seconds=0, warm=False)) == 1


@pytest.mark.parametrize("name", ["cuda_eager", "cuda_unpadded"])
def test_the_version_of_cuda_is_recorded_beside_pytorchs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(registry.find(name))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CUDA" not in worker.describe()["versions"]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert worker.describe()["versions"]["CUDA"] == "13.0"


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GPU_NAMES)
def test_every_contender_answers_on_a_gpu(
    name: str,
    model: Model,
    inputs: tuple[np.ndarray, ...],
    expected: np.ndarray,
    tmp_path: Path,
) -> None:
    contender = registry.find(name)
    if reason := contender.missing():
        pytest.skip(reason)
    folder = tmp_path / "prepared" / name
    folder.mkdir(parents=True)
    contender.prepare(model, "embeddings", folder)
    loaded = contender.load(model, "embeddings", folder, 1)
    # The first call compiles or captures, so later calls differ from it.
    for call in (loaded.run, loaded.run, getattr(loaded, "run_varied", loaded.run), loaded.run):
        assert check(call(*inputs), expected, contender.precision).wrong is None


def test_a_graph_without_padding_has_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        **fake_cuda.stand_ins(),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "graph": lambda graph, pool: nullcontext(),
        "graph_pool_handle": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    seen: list[list[str]] = []

    def module(**inputs: torch.Tensor) -> torch.Tensor:
        seen.append(sorted(inputs))
        return inputs["input_ids"]

    graphed = CudaGraphModule(module)
    ids = torch.arange(8).reshape(2, 4)
    padded = torch.ones_like(ids)
    padded[1, 3] = 0
    for mask in (torch.ones_like(ids), padded, torch.ones_like(ids)):
        outputs = graphed(input_ids=ids, attention_mask=mask)
        assert torch.equal(outputs, ids)
    # Three warm-up runs and a capture for each of the two graphs.
    assert seen == [["input_ids"]] * 4 + [["attention_mask", "input_ids"]] * 4


@pytest.mark.gpu
def test_a_captured_graph_works_for_any_mask_of_its_shape(
    model: Model, inputs: tuple[np.ndarray, ...]
) -> None:
    module = load_module(model, "embeddings", attention="sdpa", device="cuda")
    plain = TorchModel(module, model, "embeddings", device="cuda")
    graphed = TorchModel(CudaGraphModule(module), model, "embeddings", device="cuda")
    ids, mask, types = inputs
    shorter = (ids[:, :5], np.ones_like(mask[:, :5]), types[:, :5])
    for arrays in ((ids, np.ones_like(mask), types), inputs, shorter, inputs):
        np.testing.assert_allclose(graphed.run(*arrays), plain.run(*arrays), atol=1e-5)


@pytest.mark.parametrize("name", GPU_NAMES)
def test_without_a_gpu_every_contender_says_what_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = registry.find(name).missing()
    assert reason
    assert "\n" not in reason


def test_cudnn_comes_first_and_is_named_when_it_is_missing(
    model: Model,
    inputs: tuple[np.ndarray, ...],
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch.nn import attention

    chosen: list[tuple[Any, bool]] = []
    sdpa_kernel = attention.sdpa_kernel

    def record(backends: Any, set_priority: bool = False) -> Any:
        chosen.append((backends[0], set_priority))
        return sdpa_kernel(backends, set_priority=set_priority)

    monkeypatch.setattr(attention, "sdpa_kernel", record)
    module = load_module(model, "embeddings", attention="sdpa")
    loaded: Any = pytorch_cuda._with_cudnn(module, model, "embeddings")
    loaded._device = "cpu"
    np.testing.assert_allclose(loaded.run(*inputs), expected, atol=1e-6)
    assert chosen == [(attention.SDPBackend.CUDNN_ATTENTION, True)]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert "has no cuDNN" in (registry.find("cuda_cudnn").missing() or "")
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    assert registry.find("cuda_cudnn").missing() is None


def test_a_short_run_takes_few_turns() -> None:
    gpu = {"gpu_memory_gib": 10}
    options = run._parser().parse_args(["--device", "cuda", "--short"])
    config = run._config(options, gpu)
    assert (config.rounds, config.seconds) == (3, 2.0)
    assert not config.quick
    with pytest.raises(SystemExit):
        run._parser().parse_args(["--short", "--quick"])


def test_a_run_on_a_gpu_is_refused_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "describe_gpu", lambda: None)
    assert run.main(["--device", "cuda", "--folder", str(tmp_path / "none")]) == 1
    assert "--device cuda needs an NVIDIA GPU" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_run_without_pytorch_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "packages_missing", lambda *modules: f"{modules[0]} is not installed")
    assert run.main(["--folder", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == "run.py: torch is not installed\n"
    assert not (tmp_path / "none").exists()


def test_without_a_reference_all_contenders_are_refused_and_the_run_continues(
    config: BenchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> Iterator[Any]:
        raise RefusedError("there is no reference: it took too long")
        yield

    made = Model("tiny", "", "random", cls=2, sep=3, mask=4, pad=0, vocabulary=20)
    monkeypatch.setattr(run, "make_model", lambda *_: made)
    monkeypatch.setitem(run.WORKLOADS, "ragged", SimpleNamespace(measure=measure))
    step = Step("ragged", "tiny", ("embeddings",), GPU_NAMES)
    rows = list(run._measure(config, [step, step]))
    assert [row["contender"] for row in rows] == [*GPU_NAMES] * 2
    assert {row["reason"] for row in rows} == {"there is no reference: it took too long"}


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (
            "NVIDIA H200, 580.1, 143771\nNVIDIA H200, 580.1, 143771\n",
            {"gpu": "NVIDIA H200", "driver": "580.1", "gpu_memory_gib": 140.4},
        ),
        ("No devices were found\n", None),
    ],
)
def test_the_gpu_is_described_as_its_driver_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, found: Any
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert describe_gpu() == found
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_gpu() is None
