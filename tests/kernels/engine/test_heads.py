"""Test all heads with `bertrt.load` on the Triton engine, in its interpreter, against PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertrt
from bertrt.export.heads import HEADS as EXPORTED_HEADS

HEADS = [head.class_name for head in EXPORTED_HEADS]
# For float16 relative to the largest number; its steps are 5e-4 of a number: about 20 roundings.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="for Triton's interpreter")


def arrays_of(class_name: str, lengths: list[int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(sum(lengths))
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    arrays = {
        "input_ids": random.integers(5, 100, shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, shape) * mask,
    }
    if class_name == "BertForMultipleChoice":
        arrays = {name: np.stack([array, array[::-1]], axis=1) for name, array in arrays.items()}
    return arrays


def eager(folder: Path, class_name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import transformers

    model = getattr(transformers, class_name).from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        outputs = model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    return {
        name: value.float().numpy()
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize(
    ("class_name", "dtype"),
    # Half precision depends on the kernels, and these heads use all of them.
    [(name, "float32") for name in HEADS]
    + [(name, "float16") for name in ("BertModel", "BertForPreTraining", "BertForMultipleChoice")],
)
def test_run_matches_eager_pytorch(
    load_artifact: Callable[..., Any],
    make_checkpoint: Callable[..., Path],
    class_name: str,
    dtype: str,
) -> None:
    rt = load_artifact(class_name, device="cuda", engine="triton", dtype=dtype)
    arrays = arrays_of(class_name, [4, 1, 3])
    expected = eager(make_checkpoint(class_name), class_name, arrays)
    answer = rt.run(**arrays)
    assert set(answer) <= set(expected)
    for name, value in answer.items():
        assert value.dtype == np.float32
        assert value.shape == expected[name].shape
        real = np.ones(value.shape[:2], bool)
        if value.shape[:2] == arrays["input_ids"].shape:
            real = arrays["attention_mask"].astype(bool)
            assert not value[~real].any()  # padding is zero
        size = max(1.0, float(np.abs(expected[name]).max())) if dtype == "float16" else 1.0
        np.testing.assert_allclose(
            value[real], expected[name][real], atol=TOLERANCE[dtype] * size, rtol=0
        )


def test_info(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    info = rt.info
    assert (info["engine"], info["provider"]) == ("triton", "triton")
    assert info["max_batch_tokens"] == 16384
    with rt.batcher() as batcher:
        assert "with 1 workers" in repr(batcher)


QUESTIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "BertForMaskedLM": (("the cat [MASK] on the [MASK]",), {}),
    "BertForSequenceClassification": (("a good movie",), {"top_k": None}),
    "BertForTokenClassification": (("John lives in Paris",), {}),
    "BertForQuestionAnswering": (
        (),
        {"question": "who works", "context": "John Smith works at Google in New York."},
    ),
    "BertLMHeadModel": (("the cat",), {"max_new_tokens": 2, "do_sample": False}),
}


@pytest.mark.parametrize("class_name", QUESTIONS)
def test_answers_match_the_cpu(load_artifact: Callable[..., Any], class_name: str) -> None:
    inputs, options = QUESTIONS[class_name]
    rt = load_artifact(class_name, device="cuda", engine="triton", dtype="float32")
    check_equal(rt(*inputs, **options), load_artifact(class_name)(*inputs, **options))


def check_equal(got: Any, expected: Any) -> None:
    """Check that two answers are equal, with scores equal to five digits."""
    if isinstance(expected, float):
        assert got == pytest.approx(expected, abs=1e-5)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name in expected:
            check_equal(got[name], expected[name])
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for item, expected_item in zip(got, expected, strict=True):
            check_equal(item, expected_item)
    else:
        assert got == expected


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler", "max"])
def test_embeddings_match_the_cpu(load_artifact: Callable[..., Any], pooling: str) -> None:
    texts = ["the cat sat", "a", "plants create oxygen through a process"]
    rt = load_artifact("BertModel", device="cuda", engine="triton", dtype="float32")
    expected = load_artifact("BertModel").embed(texts, pooling=pooling)
    np.testing.assert_allclose(rt.embed(texts, pooling=pooling), expected, atol=1e-5)


def test_pytorch_is_imported_only_for_a_triton_artifact(
    make_artifact: Callable[..., Path],
) -> None:
    """Importing the runtime imports neither PyTorch nor ONNX Runtime."""
    import subprocess
    import sys

    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    code = (
        "import sys, bertrt\n"
        "assert 'torch' not in sys.modules\n"
        "with bertrt.load(sys.argv[1], threads=1) as rt:\n"
        "    assert 'torch' in sys.modules and 'transformers' not in sys.modules\n"
        "    assert 'onnxruntime' not in sys.modules\n"
        "    rt.info\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_missing_packages_are_named_with_the_pip_command(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    path = make_artifact("BertForMaskedLM", device="cuda", engine="triton", dtype="float32")
    monkeypatch.setitem(sys.modules, "bertrt.kernels.engine.session", None)
    with pytest.raises(bertrt.DeviceError, match=r"pip install 'bertrt\[gpu\]'"):
        bertrt.load(path)
