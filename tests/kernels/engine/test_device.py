"""Tensors in and tensors out, under Triton's interpreter, whose device is the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertrt
from bertrt.errors import InputError
from bertrt.kernels.engine import session as module
from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.cuda_graphs import Launched
from bertrt.kernels.engine.device_inputs import DeviceFeeds
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import make_plan
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.transfer import upload
from bertrt.kernels.engine.upload_buffer import Staging

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for Triton's interpreter")

CPU = torch.device("cpu")
# Each has a way into the graph or out of it that the others have not.
HEADS: dict[str, dict[str, Any]] = {
    "BertModel": {"outputs": ["last_hidden_state", "mean_embedding"]},
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
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each run goes, and that on the device nothing goes by the host's ENTRY or EXIT."""
    taken: list[str] = []
    opened = module._Opened
    for name in ("run", "run_there"):
        run = getattr(opened, name)

        def watched(self: Any, feeds: Any, outputs: Any, run: Any = run, name: str = name) -> Any:
            taken.append(f"{'device' if isinstance(feeds, DeviceFeeds) else 'host'} {name}")
            return run(self, feeds, outputs)

        monkeypatch.setattr(opened, name, watched)
    return taken


@pytest.mark.parametrize("class_name", HEADS)
def test_results_are_those_of_the_host_to_the_bit(
    load_artifact: Callable[..., Any], ways: list[str], class_name: str
) -> None:
    rt = load_artifact(class_name, device="cuda", engine="triton", dtype="float32")
    arrays, options = arrays_of(class_name), dict(HEADS[class_name])
    if options.get("masked_only"):
        arrays["input_ids"][0, 1:3] = arrays["input_ids"][2, 5] = rt.tokenizer.mask_id
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    expected = rt.run(**arrays, **options)
    like = torch.zeros(1)
    for given in (tensors, arrays, {**arrays, "input_ids": tensors["input_ids"]}):
        there = rt.run(**given, **options, like=like)
        assert list(there) == list(expected)
        for name, tensor in there.items():
            assert isinstance(tensor, torch.Tensor)
            assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
            assert not tensor.is_inference()
            np.testing.assert_array_equal(tensor.numpy(), expected[name])
    for name, array in rt.run(**tensors, **options).items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, expected[name])
    assert ways == [
        *("host run", "device run_there", "host run_there", "device run_there"),
        "device run_there",
    ]


def test_refusals_are_the_hosts_sentences(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    for given, message in (
        ({"input_ids": ids + 1_000_000}, "input_ids has the id 1000005: this model's are 0 to"),
        ({"input_ids": ids.float()}, "input_ids has dtype float32: give integers"),
        ({"input_ids": ids, "attention_mask": ids}, "attention_mask has values other than 0"),
        ({"input_ids": ids, "attention_mask": ids[:, :2]}, r"attention_mask has shape \[1, 2\]"),
        ({"input_ids": ids, "masked_only": 3}, "masked_only is 3: give True or False"),
        ({"input_ids": ids, "outputs": ["pooled"]}, "unknown output 'pooled'"),
        ({"input_ids": ids, "like": "torch"}, "like is a str"),
    ):
        with pytest.raises(InputError, match=message):
            rt.run(**given)


def test_results_are_the_callers_own(
    tiny_path: Path, feeds_of: Callable[..., Any], expected: Callable[..., Any], stand_in: Any
) -> None:
    """What a later run overwrites, as a CUDA graph's replay does, is nobody's result."""

    class Overwriting(Launched):
        def run(self, *given: Any, **more: Any) -> Any:
            program, bucket, arrays, take = given

            def spoil(results: dict[str, torch.Tensor]) -> Any:
                taken = take(results)
                for result in results.values():
                    result.numpy().fill(np.nan)
                return taken

            return super().run(program, bucket, arrays, spoil, **more)

    one = TritonSession(tiny_path, kernels=stand_in.kernels, strategy=lambda: Overwriting(CPU))
    feeds = {**feeds_of([5, 1, 3]), "masked_only": np.array(False)}
    for flag in (False, True):
        feeds["masked_only"] = np.array(flag)
        wanted = expected(feeds)
        for name, tensor in one.run_there(feeds).items():
            np.testing.assert_allclose(tensor.numpy(), wanted[name], rtol=1e-5, atol=1e-5)


def test_tensors_gather_as_arrays_are_sent(tiny_path: Path) -> None:
    plan = make_plan(read_graph(tiny_path)[0], ["logits", "pooled"])
    random = np.random.default_rng(0)
    arrays = {name: random.integers(1, 9, 5).astype(np.int32) for name in plan.uploads}
    bucket = Bucket(tuple(range(5, 5 + len(arrays))), 32)
    sent, gathered = Staging(plan, bucket, CPU), Staging(plan, bucket, CPU)
    for array in arrays.values():
        array.sort()
    sent.send(arrays)
    tensors = upload(arrays, CPU)
    assert list(tensors) == list(arrays)
    gathered.gather(tensors)
    for name, upload_ in sent.uploads.items():
        assert torch.equal(upload_, gathered.uploads[name])
        np.testing.assert_array_equal(tensors[name].numpy(), arrays[name])


def test_what_is_on_the_device(tiny_path: Path) -> None:
    one = TritonSession(tiny_path, strategy=lambda: Launched(CPU))
    for value in (None, [1, 2], np.ones(2), np.int64(3), "torch"):
        assert not one.holds(value)
    assert one._inner is None  # none of them needs the session
    assert one.holds(torch.ones(2))
    assert not one.holds(torch.ones(2, device="meta"))
    assert one.holds(torch.ones(2, requires_grad=True))


def test_the_device_is_named_once_it_is_in_use(make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    with bertrt.load(path) as rt:
        assert rt.info["device"] == "cuda"
        rt.run(input_ids=[[5, 6]])
        assert rt.info["device"] == "cpu, by Triton's interpreter"
