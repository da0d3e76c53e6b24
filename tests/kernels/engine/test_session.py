"""Test the Triton session on a tiny graph with fake kernels, against onnx.reference."""

import os
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bertrt.engines import fork_safe
from bertrt.errors import ArtifactError, BertrtError, DeviceError, InputError
from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.lru_cache import LruCache
from bertrt.kernels.engine.plan import make_plan
from bertrt.kernels.engine.program import Kernels, Program, remove_padding
from bertrt.kernels.engine.runner import EagerRunner
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.transfer import to_tensor
from bertrt.kernels.engine.upload_buffer import UploadBuffer

CPU = torch.device("cpu")
Inputs = Callable[..., dict[str, np.ndarray]]


def make_eager_runner() -> EagerRunner:
    return EagerRunner(CPU)


def make_session(path: Path, fake_kernels: Any) -> TritonSession:
    return TritonSession(path, kernels=fake_kernels.kernels, make_runner=make_eager_runner)


def check(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, value in got.items():
        assert value.dtype == np.float32
        assert value.shape == expected[name].shape
        # The same float32 operations, but products of more rows may be summed in another order.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("lengths", [[1], [7], [8], [3, 1, 5], [1] * 9, [18, 2]], ids=str)
def test_run_matches_the_reference(
    tiny_path: Path,
    make_inputs: Inputs,
    expected: Inputs,
    fake_kernels: Any,
    lengths: list[int],
    hole: bool,
    flag: bool,
) -> None:
    inputs = {**make_inputs(lengths, hole=hole), "masked_only": np.array(flag)}
    got = make_session(tiny_path, fake_kernels).run(inputs)
    assert list(got) == ["logits", "pooled", "unit", "start", "end"]
    check(got, expected(inputs))


def test_only_needed_kernels_are_launched(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    inputs = make_inputs([5, 2])
    session = make_session(tiny_path, fake_kernels)
    got = session.run(inputs, ["unit"])
    assert list(got) == ["unit"]
    check(got, expected(inputs))
    assert fake_kernels.launched[-2:] == ["PoolRows", "UnitRows"]
    assert fake_kernels.launched.count("Linear") == 2
    assert list(session.run(inputs, ["start", "pooled"])) == ["start", "pooled"]
    assert list(session.run(inputs, ["pooled", "start"])) == ["pooled", "start"]


def test_the_batchs_padding_is_not_computed(
    tiny_path: Path, make_inputs: Inputs, fake_kernels: Any
) -> None:
    inputs = make_inputs([19] + [1] * 15)
    make_session(tiny_path, fake_kernels).run(inputs, ["start"])
    assert inputs["input_ids"].size == 320
    assert set(fake_kernels.rows) == {40}  # 34 tokens, rounded up


def test_no_mask_tokens(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    inputs = {**make_inputs([4, 2]), "masked_only": np.array(True)}
    inputs["input_ids"][:] = 7
    got = make_session(tiny_path, fake_kernels).run(inputs)
    assert got["logits"].shape == (0, 1, 23)
    check(got, expected(inputs))


class StaticMemoryRunner:
    """Reuses the memory of each bucket as CUDA graphs do, without a GPU."""

    device = CPU

    def __init__(self, max_graphs: int = 128) -> None:
        self.buffers: LruCache[Any, UploadBuffer] = LruCache(max_graphs, 1 << 30)
        self.created = 0

    def info(self) -> dict[str, Any]:
        return {"cuda_graphs": True}

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        consume: Callable[[dict[str, torch.Tensor]], Any],
        *,
        on_device: bool,
    ) -> Any:
        key = (program.plan.outputs, bucket)
        buffer = self.buffers.get(key)
        if buffer is None:
            self.created += 1
            buffer = UploadBuffer(program.plan, bucket, CPU)
            self.buffers.put(key, buffer, 1)
        buffer.fill(arrays, on_device=on_device)
        results = program.launch(buffer.tensors, bucket.max_length)
        answer = consume(remove_padding(program.plan, results, arrays))
        for result in results.values():  # the next run overwrites them
            result.fill_(np.nan)
        return answer


def test_runs_of_different_sizes_share_memory(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    runner = StaticMemoryRunner()
    session = TritonSession(tiny_path, kernels=fake_kernels.kernels, make_runner=lambda: runner)
    batches = [[8, 4, 3], [6, 3], [1, 1, 8, 1], [10, 2], [8, 4, 3], [2] * 7]
    answers = [(inputs, session.run(inputs)) for inputs in map(make_inputs, batches)]
    assert runner.created < len(batches)
    for inputs, got in answers:  # a later run does not change an earlier answer
        check(got, expected(inputs))


def test_the_number_of_graphs_is_bounded(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    runner = StaticMemoryRunner(max_graphs=5)
    session = TritonSession(tiny_path, kernels=fake_kernels.kernels, make_runner=lambda: runner)
    for length in range(1, 19):
        for batch in (1, 2, 5):
            inputs = make_inputs([length] * batch)
            check(session.run(inputs, ["pooled"]), expected(inputs))
    assert len(runner.buffers) == 5
    assert runner.created > 5


def test_uploads_are_aligned() -> None:
    class FakePlan:
        uploads = ("a", "b", "c")
        offsets = frozenset("b")

    buffer = UploadBuffer(FakePlan, Bucket((8, 3, 24), 32), CPU)  # type: ignore[arg-type]
    addresses = [buffer.tensors[name].data_ptr() for name in "abc"]
    assert {(address - addresses[0]) % 64 for address in addresses} == {0}
    buffer.fill({"a": np.arange(3), "b": np.array([0, 7]), "c": np.arange(24)}, on_device=False)
    assert buffer.tensors["a"].tolist() == [0, 1, 2, 0, 0, 0, 0, 0]
    assert buffer.tensors["b"].tolist() == [0, 7, 7]


def test_linear_and_layer_norm_exchange_partial_sums(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    calls_with_partials = []

    def linear(
        x: Any, weight: Any, bias: Any = None, *, partials: bool = False, **options: Any
    ) -> Any:
        calls_with_partials.append(partials)
        y = fake_kernels.kernels.table["Linear"](x, weight, bias, **options)
        return torch.stack([y * 0.25, y * 0.75]) if partials else y

    def add_layer_norm(x: Any, *rest: Any, **options: Any) -> Any:
        whole = x.sum(0) if x.ndim == 3 else x
        return fake_kernels.kernels.table["AddLayerNorm"](whole, *rest, **options)

    def choose_splits(rows: int, depth: int, columns: int, dtype: Any, device: Any) -> int:
        assert (depth, columns, dtype, device) == (16, 16, torch.float32, CPU)
        return 2

    table = {**fake_kernels.kernels.table, "Linear": linear, "AddLayerNorm": add_layer_norm}
    session = TritonSession(
        tiny_path, kernels=Kernels(table, choose_splits), make_runner=make_eager_runner
    )
    inputs = make_inputs([5, 2])
    check(session.run(inputs, ["start"]), expected(inputs))
    assert calls_with_partials == [False, True, False]


def test_a_product_takes_the_residual_of_its_layer_norm(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    sizes: list[Any] = []

    def takes_residual(*arguments: Any) -> bool:
        sizes.append(arguments)
        return arguments[0] > 8

    kernels = replace(fake_kernels.kernels, takes_residual=takes_residual)
    session = TritonSession(tiny_path, kernels=kernels, make_runner=make_eager_runner)
    inputs = make_inputs([5, 2])
    check(session.run(inputs, ["start"]), expected(inputs))
    assert fake_kernels.overwritten == 0
    inputs = make_inputs([5, 2, 3])
    for _ in range(2):
        check(session.run(inputs), expected(inputs))
    assert fake_kernels.overwritten == 2
    assert sizes[-1] == (16, 16, 16, torch.float32, CPU)


def test_bfloat16_is_copied_bit_by_bit() -> None:
    import ml_dtypes

    array = np.array([[1.5, -3.0, 0.0078125]]).astype(ml_dtypes.bfloat16)
    tensor = to_tensor(array, CPU)
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [[1.5, -3.0, 0.0078125]]


def test_defaults_and_device(tiny_path: Path, fake_kernels: Any) -> None:
    session = make_session(tiny_path, fake_kernels)
    assert session.inputs_with_defaults() == ["masked_only"]
    assert session.providers() == ["cpu"]
    assert session.info() == {"device": "cpu (Triton interpreter)"}


def test_info_says_what_the_runner_says(tiny_path: Path, fake_kernels: Any) -> None:
    session = TritonSession(tiny_path, kernels=fake_kernels.kernels, make_runner=StaticMemoryRunner)
    assert session.info() == {"device": "cuda"}
    session.providers()
    assert session.info() == {"device": "cpu (Triton interpreter)", "cuda_graphs": True}


def test_run_errors(tiny_path: Path, make_inputs: Inputs, fake_kernels: Any) -> None:
    inputs = make_inputs([5, 2])
    session = make_session(tiny_path, fake_kernels)
    with pytest.raises(InputError, match="unknown output 'hidden'"):
        session.run(inputs, ["hidden"])
    with pytest.raises(InputError, match="attention_mask is missing"):
        session.run({name: inputs[name] for name in ("input_ids", "token_type_ids")})
    with pytest.raises(BertrtError, match="the Triton engine failed on this input"):
        session.run({**inputs, "input_ids": inputs["input_ids"] + 1000})
    session.run(inputs)
    session.close()
    session.close()
    with pytest.raises(BertrtError, match="closed"):
        session.check_open()
    with pytest.raises(BertrtError, match="closed"):
        session.run(inputs)


def test_a_failed_check_takes_precedence(
    tmp_path: Path, fake_kernels: Any, make_inputs: Inputs
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    calls = []

    def check() -> None:
        calls.append(1)
        raise ArtifactError("model.onnx is not the file that was exported")

    session = TritonSession(
        tmp_path / "model.onnx", check, kernels=fake_kernels.kernels, make_runner=make_eager_runner
    )
    for _ in range(2):
        with pytest.raises(ArtifactError, match="not the file that was exported"):
            session.run(make_inputs([2]))
    assert len(calls) == 2


def test_a_check_that_passed_is_not_repeated(
    tiny_path: Path, fake_kernels: Any, make_inputs: Inputs
) -> None:
    calls: list[int] = []
    session = TritonSession(
        tiny_path,
        lambda: calls.append(1),
        kernels=fake_kernels.kernels,
        make_runner=make_eager_runner,
    )
    for _ in range(3):
        session.run(make_inputs([2]))
    assert calls == [1]


def test_a_missing_gpu_is_reported(
    tiny_path: Path, make_inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    session = TritonSession(tiny_path)
    with pytest.raises(DeviceError, match="finds no CUDA device here: run it where"):
        session.run(make_inputs([2]))
    monkeypatch.setattr(fork_safe, "_cuda_used_by_parent", True)
    with pytest.raises(BertrtError, match="before this process was forked"):
        session.run(make_inputs([2]))


def test_many_threads(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    runner = StaticMemoryRunner(max_graphs=3)
    session = TritonSession(tiny_path, kernels=fake_kernels.kernels, make_runner=lambda: runner)
    batches = [make_inputs(lengths) for lengths in ([3], [9, 2], [17], [4, 4, 4])]
    references = [expected(inputs) for inputs in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: session.run(batches[i % 4]), range(64)))
    for i, answer in enumerate(answers):
        check(answer, references[i % 4])


def test_a_run_is_queued_while_another_is_waited_for(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    both_wait = threading.Barrier(2, timeout=60)  # breaks unless both runs are queued

    class SlowRunner(StaticMemoryRunner):
        def run(self, *arguments: Any, **options: Any) -> Any:
            wait = super().run(*arguments, **options)

            def wait_together() -> Any:
                both_wait.wait()
                return wait()

            return wait_together

    runner = SlowRunner()
    session = TritonSession(tiny_path, kernels=fake_kernels.kernels, make_runner=lambda: runner)
    batches = [make_inputs([5, 2]), make_inputs([6, 1])]  # of one bucket, so they share memory
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(session.run, batches))
    assert runner.created == 1
    for inputs, got in zip(batches, answers, strict=True):
        check(got, expected(inputs))


def test_an_upload_waits_for_the_copy_before_it(tiny_path: Path) -> None:
    plan = make_plan(read_graph(tiny_path)[0], ["start"])
    buffer = UploadBuffer(plan, Bucket((8, 8, 8, 3), 32), CPU)
    log: list[Any] = []

    class Event:
        def synchronize(self) -> None:
            log.append(("wait", buffer._host.tolist()))

        def record(self) -> None:
            log.append(("record", buffer._device.tolist()))

    # As on a GPU, where the memory of the host is not the device's.
    buffer._device, buffer._uploaded = torch.zeros_like(buffer._host), Event()
    for value in (1, 2):
        arrays = {name: np.full(3, value, np.int32) for name in plan.uploads}
        buffer.fill(arrays, on_device=False)
    (_, empty), (_, first), (_, before), (_, second) = log
    assert [step for step, _ in log] == ["wait", "record"] * 2
    assert set(empty) == {0}
    assert before == first  # nothing was written before the wait
    assert max(second) == 2


def test_an_unpickled_session_loads_the_graph_again(tiny_path: Path) -> None:
    session = TritonSession(tiny_path, make_runner=make_eager_runner)
    again = pickle.loads(pickle.dumps(session))
    assert again._inner is None
    assert again.inputs_with_defaults() == ["masked_only"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_loads_the_graph_again(
    tiny_path: Path, make_inputs: Inputs, expected: Inputs, fake_kernels: Any
) -> None:
    session = make_session(tiny_path, fake_kernels)
    inputs = make_inputs([5, 2])
    session.run(inputs)
    reference = expected(inputs)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert session._inner is None
            check(session.run(inputs, ["pooled"]), reference)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert session._inner is not None


def test_a_graph_is_read_at_the_first_run(
    tiny: onnx.ModelProto, tmp_path: Path, fake_kernels: Any, make_inputs: Inputs
) -> None:
    session = make_session(tmp_path / "model.onnx", fake_kernels)
    with pytest.raises(ArtifactError, match="cannot be read"):
        session.run(make_inputs([2]))
    onnx.save(tiny, tmp_path / "model.onnx")
    assert session.run(make_inputs([2]), ["pooled"])["pooled"].shape == (1, 16)
