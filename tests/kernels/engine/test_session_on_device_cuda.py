"""Test tensors that stay on the GPU: no copies, the caller's stream, results that are kept."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.errors import InputError
from bertrt.kernels.engine.session import TritonSession

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
BATCHES = [[4, 1, 6], [7], [5, 5], [1] * 9, [2, 3, 3]]


def arrays_of(lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": random.integers(5, 100, mask.shape) * mask, "attention_mask": mask}


def on_gpu(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).cuda() for name, array in arrays.items()}


@pytest.fixture
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float16")


HEADS: dict[str, dict[str, Any]] = {
    "BertModel": {"outputs": ["last_hidden_state", "sentence_embedding"]},
    "BertForMaskedLM": {"masked_only": True},
    "BertForSequenceClassification": {},
    "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {},
}


@pytest.mark.parametrize("class_name", HEADS)
def test_results_match_the_host_bit_by_bit(
    load_artifact: Callable[..., Any], class_name: str
) -> None:
    rt = load_artifact(class_name, device="cuda", engine="triton", dtype="float16")
    options = HEADS[class_name]
    for lengths in BATCHES * 2:  # launched, then replayed
        arrays = arrays_of(lengths)
        if class_name == "BertForMaskedLM":
            arrays["input_ids"][:, 0] = rt.tokenizer.mask_id
        if class_name == "BertForMultipleChoice":
            arrays = {name: array[:, None].repeat(2, axis=1) for name, array in arrays.items()}
        tensors = on_gpu(arrays)
        expected = rt.run(**arrays, **options)
        like = tensors["input_ids"]
        mixed = {**arrays, "input_ids": like}
        for inputs in (tensors, arrays, mixed):
            for name, tensor in rt.run(**inputs, **options, like=like).items():
                assert tensor.device == like.device
                assert not tensor.is_inference()
                np.testing.assert_array_equal(tensor.cpu().numpy(), expected[name])
        for inputs in (tensors, mixed):
            for name, array in rt.run(**inputs, **options).items():
                np.testing.assert_array_equal(array, expected[name])
        for name, tensor in rt.run(**tensors, **options, like=torch.zeros(1)).items():
            assert tensor.device.type == "cpu"
            np.testing.assert_array_equal(tensor.numpy(), expected[name])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_a_run_waits_for_the_device_once(rt: Any) -> None:
    tensors = on_gpu(arrays_of([4, 1, 6]))
    for _ in range(3):  # launched and captured before the run that counts
        rt.run(**tensors, like=tensors["input_ids"])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rt.run(**tensors, like=tensors["input_ids"])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchronizing CUDA operation" in str(w.message)]
    assert len(waits) == 1


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_a_run_of_host_inputs_never_waits(rt: Any) -> None:
    arrays = arrays_of([4, 1, 6])
    like = torch.zeros(1, device="cuda")
    for _ in range(3):
        rt.run(**arrays, like=like)
    torch.cuda.set_sync_debug_mode("error")
    try:
        rt.run(**arrays, like=like)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_results_survive_later_runs(rt: Any) -> None:
    batches = [arrays_of(lengths, seed) for seed in range(20) for lengths in BATCHES]
    expected = [rt.run(**arrays).logits for arrays in batches]
    inputs = [on_gpu(arrays) for arrays in batches]
    # Read the results only after all runs, with runs of numpy arrays in between.
    results = []
    for index, tensors in enumerate(inputs):
        results.append(rt.run(**tensors, like=tensors["input_ids"]).logits)
        if index % 7 == 0:
            rt.run(**batches[index // 2])
    for got, logits in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got.cpu().numpy(), logits)


def test_runs_are_ordered_by_the_callers_stream(rt: Any) -> None:
    """The inputs are still being computed, and the results are used at once."""
    arrays = arrays_of([6, 6, 2])
    expected = rt.run(**arrays).logits
    source = on_gpu(arrays)
    rt.run(**source, like=source["input_ids"])
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    for _ in range(5):
        with torch.cuda.stream(stream):
            ids = torch.zeros_like(source["input_ids"])
            torch.cuda._sleep(20_000_000)  # about ten milliseconds
            ids.copy_(source["input_ids"])
            got = rt.run(input_ids=ids, attention_mask=source["attention_mask"], like=ids).logits
            ids.fill_(7)  # after the run, in the stream's order
            twice = got * 2
            del got
        # Freed memory may be reused, but only after the work that reads it.
        again = rt.run(**on_gpu(arrays_of([6, 6, 2], seed=9)), like=ids).logits
        stream.synchronize()
        np.testing.assert_array_equal(twice.cpu().numpy(), expected * 2)
        del again


def test_many_threads_with_their_own_streams(rt: Any) -> None:
    batches = [arrays_of(lengths) for lengths in BATCHES]
    expected = [rt.run(**arrays).logits for arrays in batches]

    def run(index: int) -> np.ndarray:
        arrays = batches[index % len(batches)]
        with torch.cuda.stream(torch.cuda.Stream()):
            if index % 3 == 0:
                return rt.run(**arrays).logits
            tensors = on_gpu(arrays)
            return rt.run(**tensors, like=tensors["input_ids"]).logits.cpu().numpy()

    with ThreadPoolExecutor(6) as pool:
        for index, got in enumerate(pool.map(run, range(120))):
            np.testing.assert_array_equal(got, expected[index % len(expected)])


def test_invalid_inputs_have_the_hosts_error_messages(rt: Any) -> None:
    ids = torch.tensor([[5, 6, 7]], device="cuda")
    for inputs, message in (
        ({"input_ids": ids + 1_000_000}, "input_ids has the id 1000005: this model's are 0 to"),
        ({"input_ids": ids.float()}, "input_ids has dtype float32: give integers"),
        ({"input_ids": ids, "attention_mask": ids * 0}, "row 0 of attention_mask is all zeros"),
    ):
        with pytest.raises(InputError, match=message):
            rt.run(**inputs)
    assert rt.run(input_ids=ids, like=ids).logits.is_cuda


def test_cupy(rt: Any) -> None:
    cupy = pytest.importorskip("cupy")
    arrays = arrays_of([4, 1, 6])
    expected = rt.run(**arrays).logits
    for _ in range(3):
        inputs = {name: cupy.asarray(array) for name, array in arrays.items()}
        got = rt.run(**inputs, like=inputs["input_ids"]).logits
        assert isinstance(got, cupy.ndarray)
        np.testing.assert_array_equal(cupy.asnumpy(got), expected)


def test_info_names_the_device(tiny_path: Path) -> None:
    session = TritonSession(tiny_path)
    assert session.info() == {"device": "cuda"}
    assert session.providers() == [f"cuda:{torch.cuda.current_device()}"]
    assert session.info()["device"].startswith(f"cuda:{torch.cuda.current_device()} ")
    assert torch.cuda.get_device_name() in session.info()["device"]
    assert session.info()["cuda_graphs"] is True
