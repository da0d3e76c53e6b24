"""Test tensors in and out in Triton's interpreter, whose device is the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertrt
from bertrt.errors import InputError
from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.device_inputs import DeviceInputs
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.loaded_graph import LoadedGraph
from bertrt.kernels.engine.plan import make_plan
from bertrt.kernels.engine.runner import EagerRunner
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.transfer import upload
from bertrt.kernels.engine.upload_buffer import UploadBuffer

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for Triton's interpreter")

CPU = torch.device("cpu")
# Each enters or leaves the graph in a way that the others do not.
HEADS: dict[str, dict[str, Any]] = {
    "BertModel": {"outputs": ["last_hidden_state", "sentence_embedding"]},
    "BertForMaskedLM": {"masked_only": True},
    "BertForSequenceClassification": {},
    "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {},
}


def arrays_of(class_name: str) -> dict[str, np.ndarray]:
    lengths = np.array([4, 1, 6])
    random = np.random.default_rng(5)
    mask = (np.arange(6) < lengths[:, None]).astype(np.int64)
    arrays = {
        "input_ids": random.integers(5, 100, mask.shape),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    if class_name == "BertForMultipleChoice":
        arrays = {name: np.stack([array, array[::-1]], axis=1) for name, array in arrays.items()}
    return arrays


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record where each run's inputs are, and which method of LoadedGraph runs them."""
    recorded: list[str] = []
    for name in ("run", "run_on_device"):
        run = getattr(LoadedGraph, name)

        def record(self: Any, inputs: Any, outputs: Any, run: Any = run, name: str = name) -> Any:
            recorded.append(f"{'device' if isinstance(inputs, DeviceInputs) else 'host'} {name}")
            return run(self, inputs, outputs)

        monkeypatch.setattr(LoadedGraph, name, record)
    return recorded


@pytest.mark.parametrize("class_name", HEADS)
def test_results_match_the_host_bit_by_bit(
    load_artifact: Callable[..., Any], calls: list[str], class_name: str
) -> None:
    rt = load_artifact(class_name, device="cuda", engine="triton", dtype="float32")
    arrays, options = arrays_of(class_name), dict(HEADS[class_name])
    if options.get("masked_only"):
        arrays["input_ids"][0, 1:3] = arrays["input_ids"][2, 5] = rt.tokenizer.mask_id
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    expected = rt.run(**arrays, **options)
    like = torch.zeros(1)
    for inputs in (tensors, arrays, {**arrays, "input_ids": tensors["input_ids"]}):
        results = rt.run(**inputs, **options, like=like)
        assert list(results) == list(expected)
        for name, tensor in results.items():
            assert isinstance(tensor, torch.Tensor)
            assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
            assert not tensor.is_inference()
            np.testing.assert_array_equal(tensor.numpy(), expected[name])
    for name, array in rt.run(**tensors, **options).items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, expected[name])
    assert calls == [
        *("host run", "device run_on_device", "host run_on_device", "device run_on_device"),
        "device run_on_device",
    ]


def test_invalid_inputs_have_the_hosts_error_messages(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    for inputs, message in (
        ({"input_ids": ids + 1_000_000}, "input_ids has the id 1000005: this model's are 0 to"),
        ({"input_ids": ids.float()}, "input_ids has dtype float32: give integers"),
        ({"input_ids": ids, "attention_mask": ids}, "attention_mask has values other than 0"),
        ({"input_ids": ids, "attention_mask": ids[:, :2]}, r"attention_mask has shape \[1, 2\]"),
        ({"input_ids": ids, "masked_only": 3}, "masked_only is 3: give true or false"),
        ({"input_ids": ids, "outputs": ["pooled"]}, "unknown output 'pooled'"),
        ({"input_ids": ids, "like": "torch"}, "like is a str"),
    ):
        with pytest.raises(InputError, match=message):
            rt.run(**inputs)


def test_results_are_owned_by_the_caller(
    tiny_path: Path,
    make_inputs: Callable[..., Any],
    expected: Callable[..., Any],
    fake_kernels: Any,
) -> None:
    """A later run may overwrite a runner's results, as a CUDA graph's replay does."""

    class OverwritingRunner(EagerRunner):
        def run(self, *arguments: Any, **options: Any) -> Any:
            program, bucket, arrays, consume = arguments

            def consume_and_overwrite(results: dict[str, torch.Tensor]) -> Any:
                consumed = consume(results)
                for result in results.values():
                    result.numpy().fill(np.nan)
                return consumed

            return super().run(program, bucket, arrays, consume_and_overwrite, **options)

    session = TritonSession(
        tiny_path, kernels=fake_kernels.kernels, make_runner=lambda: OverwritingRunner(CPU)
    )
    inputs = {**make_inputs([5, 1, 3]), "masked_only": np.array(False)}
    for flag in (False, True):
        inputs["masked_only"] = np.array(flag)
        reference = expected(inputs)
        for name, tensor in session.run_on_device(inputs).items():
            np.testing.assert_allclose(tensor.numpy(), reference[name], rtol=1e-5, atol=1e-5)


def test_upload_buffers_filled_from_host_and_device_are_equal(tiny_path: Path) -> None:
    plan = make_plan(read_graph(tiny_path)[0], ["logits", "pooled"])
    random = np.random.default_rng(0)
    arrays = {name: random.integers(1, 9, 5).astype(np.int32) for name in plan.uploads}
    bucket = Bucket(tuple(range(5, 5 + len(arrays))), 32)
    from_host, from_device = UploadBuffer(plan, bucket, CPU), UploadBuffer(plan, bucket, CPU)
    for array in arrays.values():
        array.sort()
    from_host.fill(arrays, on_device=False)
    tensors = upload(arrays, CPU)
    assert list(tensors) == list(arrays)
    from_device.fill(tensors, on_device=True)
    for name, tensor in from_host.tensors.items():
        assert torch.equal(tensor, from_device.tensors[name])
        np.testing.assert_array_equal(tensors[name].numpy(), arrays[name])


def test_is_on_device(tiny_path: Path) -> None:
    session = TritonSession(tiny_path, make_runner=lambda: EagerRunner(CPU))
    for value in (None, [1, 2], np.ones(2), np.int64(3), "torch"):
        assert not session.is_on_device(value)
    assert session._inner is None  # none of these loads the graph
    assert session.is_on_device(torch.ones(2))
    assert not session.is_on_device(torch.ones(2, device="meta"))
    assert session.is_on_device(torch.ones(2, requires_grad=True))


def test_info_names_the_device_once_it_is_in_use(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    with bertrt.load(path) as rt:
        assert rt.info["device"] == "cuda"
        rt.run(input_ids=[[5, 6]])
        assert rt.info["device"] == "cpu (Triton interpreter)"
