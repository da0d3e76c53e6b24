"""The Triton session on a tiny graph with stand-in kernels, against onnx.reference."""

import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bertrt.errors import ArtifactError, BertrtError, DeviceError, InputError
from bertrt.kernels.engine import session as module
from bertrt.kernels.engine.buckets import Bucket, Recent
from bertrt.kernels.engine.cuda_graphs import Launched
from bertrt.kernels.engine.program import Kernels, Program, real_rows, to_tensor
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.upload_buffer import Staging

CPU = torch.device("cpu")
Feeds = Callable[..., dict[str, np.ndarray]]


def launching() -> Launched:
    return Launched(CPU)


def session(path: Path, stand_in: Any) -> TritonSession:
    return TritonSession(path, kernels=stand_in.kernels, strategy=launching)


def check(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, value in got.items():
        assert value.dtype == np.float32
        assert value.shape == expected[name].shape
        # The same float32 operations; products of more rows may be summed in another order.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("lengths", [[1], [7], [8], [3, 1, 5], [1] * 9, [18, 2]], ids=str)
def test_run_equals_the_reference(
    tiny_path: Path,
    feeds_of: Feeds,
    expected: Feeds,
    stand_in: Any,
    lengths: list[int],
    hole: bool,
    flag: bool,
) -> None:
    feeds = {**feeds_of(lengths, hole=hole), "masked_only": np.array(flag)}
    got = session(tiny_path, stand_in).run(feeds)
    assert list(got) == ["logits", "pooled", "unit", "start", "end"]
    check(got, expected(feeds))


def test_only_what_was_asked_for_is_launched(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any
) -> None:
    feeds = feeds_of([5, 2])
    one = session(tiny_path, stand_in)
    got = one.run(feeds, ["unit"])
    assert list(got) == ["unit"]
    check(got, expected(feeds))
    assert stand_in.launched[-2:] == ["MeanRows", "UnitRows"]
    assert stand_in.launched.count("Linear") == 2
    assert list(one.run(feeds, ["start", "pooled"])) == ["start", "pooled"]
    assert list(one.run(feeds, ["pooled", "start"])) == ["pooled", "start"]


def test_padding_of_the_batch_is_never_computed(
    tiny_path: Path, feeds_of: Feeds, stand_in: Any
) -> None:
    feeds = feeds_of([19] + [1] * 15)
    session(tiny_path, stand_in).run(feeds, ["start"])
    assert feeds["input_ids"].size == 320
    assert set(stand_in.rows) == {40}  # of 34 tokens


def test_no_masks_at_all(tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any) -> None:
    feeds = {**feeds_of([4, 2]), "masked_only": np.array(True)}
    feeds["input_ids"][:] = 7
    got = session(tiny_path, stand_in).run(feeds)
    assert got["logits"].shape == (0, 1, 23)
    check(got, expected(feeds))


class Static:
    """What CUDA graphs do, without a GPU: static memory for each bucket, used again and again."""

    device = CPU

    def __init__(self, graphs: int = 128) -> None:
        self.recent: Recent[Any, Staging] = Recent(graphs, 1 << 30)
        self.made = 0

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        take: Callable[[dict[str, torch.Tensor]], Any],
        *,
        there: bool,
    ) -> Any:
        key = (program.plan.outputs, bucket)
        staging = self.recent.get(key)
        if staging is None:
            self.made += 1
            staging = Staging(program.plan, bucket, CPU)
            self.recent.put(key, staging, 1)
        (staging.gather if there else staging.send)(arrays)
        results = program.launch(staging.uploads, bucket.longest)
        answer = take(real_rows(program.plan, results, arrays))
        for result in results.values():  # the next run overwrites them
            result.fill_(np.nan)
        return answer


def test_sizes_change_between_runs_in_the_same_memory(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any
) -> None:
    strategy = Static()
    one = TritonSession(tiny_path, kernels=stand_in.kernels, strategy=lambda: strategy)
    batches = [[8, 4, 3], [6, 3], [1, 1, 8, 1], [10, 2], [8, 4, 3], [2] * 7]
    answers = [(feeds, one.run(feeds)) for feeds in map(feeds_of, batches)]
    assert strategy.made < len(batches)
    for feeds, got in answers:  # nor does a later run change an earlier one's answer
        check(got, expected(feeds))


def test_many_shapes_keep_few_graphs(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any
) -> None:
    strategy = Static(graphs=5)
    one = TritonSession(tiny_path, kernels=stand_in.kernels, strategy=lambda: strategy)
    for length in range(1, 19):
        for batch in (1, 2, 5):
            feeds = feeds_of([length] * batch)
            check(one.run(feeds, ["pooled"]), expected(feeds))
    assert len(strategy.recent) == 5
    assert strategy.made > 5


def test_addresses_are_aligned_alike() -> None:
    class Sizes:
        uploads = ("a", "b", "c")
        offsets = frozenset("b")

    staging = Staging(Sizes, Bucket((8, 3, 24), 32), CPU)  # type: ignore[arg-type]
    begins = [staging.uploads[name].data_ptr() for name in "abc"]
    assert {(begin - begins[0]) % 64 for begin in begins} == {0}
    staging.send({"a": np.arange(3), "b": np.array([0, 7]), "c": np.arange(24)})
    assert staging.uploads["a"].tolist() == [0, 1, 2, 0, 0, 0, 0, 0]
    assert staging.uploads["b"].tolist() == [0, 7, 7]


def test_partial_sums_where_the_kernels_split(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any
) -> None:
    seen = []

    def linear(
        x: Any, weight: Any, bias: Any = None, *, partials: bool = False, **more: Any
    ) -> Any:
        seen.append(partials)
        y = stand_in.kernels.table["Linear"](x, weight, bias, **more)
        return torch.stack([y * 0.25, y * 0.75]) if partials else y

    def add_layer_norm(x: Any, *rest: Any, **more: Any) -> Any:
        whole = x.sum(0) if x.ndim == 3 else x
        return stand_in.kernels.table["AddLayerNorm"](whole, *rest, **more)

    def splits(rows: int, depth: int, columns: int, dtype: Any, device: Any) -> int:
        assert (depth, columns, dtype, device) == (16, 16, torch.float32, CPU)
        return 2

    table = {**stand_in.kernels.table, "Linear": linear, "AddLayerNorm": add_layer_norm}
    one = TritonSession(tiny_path, kernels=Kernels(table, splits), strategy=launching)
    feeds = feeds_of([5, 2])
    check(one.run(feeds, ["start"]), expected(feeds))
    assert seen == [False, True, False]


def test_bfloat16_goes_to_the_device_bit_by_bit() -> None:
    import ml_dtypes

    array = np.array([[1.5, -3.0, 0.0078125]]).astype(ml_dtypes.bfloat16)
    tensor = to_tensor(array, CPU)
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [[1.5, -3.0, 0.0078125]]


def test_defaults_and_device(tiny_path: Path, stand_in: Any) -> None:
    one = session(tiny_path, stand_in)
    assert one.inputs_with_defaults() == ["masked_only"]
    assert one.providers() == ["cpu"]


def test_errors(tiny_path: Path, feeds_of: Feeds, stand_in: Any) -> None:
    feeds = feeds_of([5, 2])
    one = session(tiny_path, stand_in)
    with pytest.raises(InputError, match="unknown output 'hidden'"):
        one.run(feeds, ["hidden"])
    with pytest.raises(InputError, match="attention_mask is missing"):
        one.run({name: feeds[name] for name in ("input_ids", "token_type_ids")})
    with pytest.raises(BertrtError, match="the Triton engine failed on this input"):
        one.run({**feeds, "input_ids": feeds["input_ids"] + 1000})
    one.run(feeds)
    one.close()
    one.close()
    with pytest.raises(BertrtError, match="closed"):
        one.check_open()
    with pytest.raises(BertrtError, match="closed"):
        one.run(feeds)


def test_a_failed_check_is_the_reason(tmp_path: Path, stand_in: Any, feeds_of: Feeds) -> None:
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    calls = []

    def check() -> None:
        calls.append(1)
        raise ArtifactError("model.onnx is not the file that was exported")

    one = TritonSession(
        tmp_path / "model.onnx", check, kernels=stand_in.kernels, strategy=launching
    )
    for _ in range(2):
        with pytest.raises(ArtifactError, match="not the file that was exported"):
            one.run(feeds_of([2]))
    assert len(calls) == 2


def test_the_check_is_made_once(tiny_path: Path, stand_in: Any, feeds_of: Feeds) -> None:
    calls: list[int] = []
    one = TritonSession(
        tiny_path, lambda: calls.append(1), kernels=stand_in.kernels, strategy=launching
    )
    for _ in range(3):
        one.run(feeds_of([2]))
    assert calls == [1]


def test_no_gpu_is_one_sentence(
    tiny_path: Path, feeds_of: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one = TritonSession(tiny_path)
    with pytest.raises(DeviceError, match="finds no CUDA device here: run it where"):
        one.run(feeds_of([2]))
    monkeypatch.setattr(module, "_FORKED_WITH_CUDA", True)
    with pytest.raises(BertrtError, match="before this process was forked"):
        one.run(feeds_of([2]))


def test_many_threads(tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any) -> None:
    strategy = Static(graphs=3)
    one = TritonSession(tiny_path, kernels=stand_in.kernels, strategy=lambda: strategy)
    batches = [feeds_of(lengths) for lengths in ([3], [9, 2], [17], [4, 4, 4])]
    wanted = [expected(feeds) for feeds in batches]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: one.run(batches[i % 4]), range(64)))
    for i, answer in enumerate(answers):
        check(answer, wanted[i % 4])


def test_a_pickle_opens_anew(tiny_path: Path) -> None:
    one = TritonSession(tiny_path, strategy=launching)
    again = pickle.loads(pickle.dumps(one))
    assert again._inner is None
    assert again.inputs_with_defaults() == ["masked_only"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_opens_anew(
    tiny_path: Path, feeds_of: Feeds, expected: Feeds, stand_in: Any
) -> None:
    one = session(tiny_path, stand_in)
    feeds = feeds_of([5, 2])
    one.run(feeds)
    wanted = expected(feeds)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert one._inner is None
            check(one.run(feeds, ["pooled"]), wanted)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one._inner is not None


def test_a_graph_is_read_at_the_first_run_only(
    tiny: onnx.ModelProto, tmp_path: Path, stand_in: Any, feeds_of: Feeds
) -> None:
    one = session(tmp_path / "model.onnx", stand_in)
    with pytest.raises(ArtifactError, match="cannot be read"):
        one.run(feeds_of([2]))
    onnx.save(tiny, tmp_path / "model.onnx")
    assert one.run(feeds_of([2]), ["pooled"])["pooled"].shape == (1, 16)
