"""The bound follows the size of what is compared: rounding passes, and a wrong graph never does."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from bertrt.artifact.targets import OPTIMIZATION_LEVEL
from bertrt.errors import ParityError
from bertrt.export.half_precision.triton import to_half_precision
from bertrt.export.parity import float32
from bertrt.export.parity.bound import describe_miss, fixed_bound, rounding_bound
from bertrt.export.parity.float32 import ParityReport, check_parity
from bertrt.export.parity.half import check_half
from bertrt.export.pipelines.cpu import fuse_for_cpu
from bertrt.export.pipelines.triton import fuse_for_triton
from bertrt.export.tracing.trace import trace

EPS = float(np.finfo(np.float32).eps)
STEP = float(np.spacing(np.float32(1000)))


class Graph:
    """A head whose last layer is scaled, its graph, and the checks of both."""

    def __init__(self, graphs: ModuleType, class_name: str, path: Path) -> None:
        self.module = copy.deepcopy(graphs.model_of(class_name))
        self.head = graphs.head_of(class_name)
        self.vectors = graphs.vectors_of(class_name)
        self._path = path

    def check(
        self, engine: str = "ort", wrong: dict[str, Callable[[np.ndarray], Any]] | None = None
    ) -> ParityReport:
        model = trace(self.module, self.head)
        options = {"mask_id": 4, "vectors": self.vectors}
        if engine == "ort":
            fuse_for_cpu(model, self.module.config, self.head, "cpu", **options)
        else:
            fuse_for_triton(model, self.module.config, self.head, **options)
        self._save(model, wrong or {})
        level = OPTIMIZATION_LEVEL["cpu"] if engine == "ort" else "disabled"
        return check_parity(
            self.module,
            self.head,
            self._path,
            optimization_level=level,
            engine=engine,
            cached=engine == "ort",
            mask_id=4,
            vectors=self.vectors,
        )

    def check_float16(self, wrong: dict[str, Callable[[np.ndarray], Any]]) -> Any:
        model = trace(self.module, self.head)
        fuse_for_triton(model, self.module.config, self.head)
        to_half_precision(model, "float16")
        self._save(model, wrong)
        return check_half(
            self.module,
            self.head,
            self._path,
            "float16",
            engine="triton",
            optimization_level="disabled",
        )

    def _save(self, model: ir.Model, wrong: dict[str, Callable[[np.ndarray], Any]]) -> None:
        for name, change in wrong.items():
            value = model.graph.initializers[name]
            data = value.const_value.numpy()
            value.const_value = ir.tensor(change(data).astype(data.dtype), name=name)
        ir.save(model, self._path)


@pytest.fixture
def classifier(graphs: ModuleType, tmp_path: Path) -> Callable[..., Graph]:
    """A factory of classifiers of two numbers, the sizes of which are about these."""

    def make(*sizes: float) -> Graph:
        graph = Graph(graphs, "BertForSequenceClassification", tmp_path / "g.onnx")
        with torch.no_grad():
            for row, size in enumerate(sizes):
                graph.module.classifier.weight[row] *= size
                graph.module.classifier.bias[row] *= size
        return graph

    return make


@pytest.mark.parametrize("engine", ["ort", "triton"])
def test_rounding_of_large_values_passes(classifier: Callable[..., Graph], engine: str) -> None:
    (logits,) = classifier(3000, 3000).check(engine).outputs
    assert logits.absolute_error > 1e-4
    assert logits.eager_error is not None
    assert logits.absolute_error <= logits.bound < 0.1
    assert logits.bound >= 8 * logits.eager_error
    assert logits.relative_error < 1e-5


@pytest.mark.parametrize("engine", ["ort", "triton"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"classifier.bias": lambda bias: bias + 0.1},
        {"classifier.bias": lambda bias: bias * 1.01},
        {"classifier.weight": lambda weight: weight * 1.01},
    ],
)
def test_a_wrong_graph_of_large_values(
    classifier: Callable[..., Graph], wrong: dict[str, Any], engine: str
) -> None:
    graph = classifier(1000, 1000)
    with pytest.raises(
        ParityError,
        match=r"logits at shape 1x1 differs .* float32 steps of values up to .* 8 times the "
        r"rounding of PyTorch's own .* not rounding, the graph computes something else: try",
    ):
        graph.check(engine, wrong)


def test_a_small_column_beside_a_large_one(classifier: Callable[..., Graph]) -> None:
    graph = classifier(3000, 0.5)
    assert graph.check().outputs[0].absolute_error > 1e-4
    message = r"logits .* by 0\.00\d+, .* at most 0\.0001 is allowed, the absolute bound"
    with pytest.raises(ParityError, match=message):
        graph.check(wrong={"classifier.bias": lambda bias: bias + np.array([0, 1e-3])})


def test_small_values(classifier: Callable[..., Graph]) -> None:
    graph = classifier(1e-6, 1e-6)
    (logits,) = graph.check().outputs
    assert 0 < logits.absolute_error <= logits.bound < 1e-8
    for name, change in {
        "classifier.weight": lambda weight: 0 * weight,
        "classifier.bias": lambda bias: bias * 1.1,
    }.items():
        with pytest.raises(ParityError, match="a thousandth of the values"):
            graph.check(wrong={name: change})


def test_zeros_pass(classifier: Callable[..., Graph]) -> None:
    (logits,) = classifier(0, 0).check().outputs
    assert (logits.absolute_error, logits.bound) == (0, 0)


def test_hidden_states_with_an_outlier_dimension(graphs: ModuleType, tmp_path: Path) -> None:
    graph = Graph(graphs, "BertModel", tmp_path / "g.onnx")
    last = graph.module.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight[3] = 2000.0
    report = {output.name: output for output in graph.check().outputs}
    assert report["last_hidden_state"].absolute_error > 1e-4
    assert report["last_hidden_state"].eager_error is not None
    assert report["sentence_embedding"].bound <= 1e-4
    assert report["sentence_embedding"].eager_error is None


def test_a_cache_with_large_values(graphs: ModuleType, tmp_path: Path) -> None:
    graph = Graph(graphs, "BertLMHeadModel", tmp_path / "g.onnx")
    with torch.no_grad():
        graph.module.cls.predictions.transform.LayerNorm.weight *= 1000
    (logits,) = graph.check().outputs
    assert 1e-4 < logits.absolute_error <= logits.bound


def test_float64_is_not_run_without_need(
    classifier: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(float32, "measure_rounding", never)
    assert classifier(1, 1).check().outputs[0].eager_error is None
    with pytest.raises(AssertionError, match="measured"):
        classifier(3000, 3000).check()


def test_float16_of_a_small_column_beside_a_large_one(classifier: Callable[..., Graph]) -> None:
    graph = classifier(1000, 0.5)
    assert graph.check_float16({})
    with pytest.raises(ParityError, match=r"column 1 of logits in float16 .* --dtype bfloat16"):
        graph.check_float16({"classifier.bias": lambda bias: bias + np.array([0, 0.1])})


def test_bounds() -> None:
    largest = np.array([1000.0, 1.0, 0.1, 1e-6, 0.0])
    np.testing.assert_allclose(fixed_bound(largest), [1e-4, 1e-4, 1e-4, 1e-9, 0.0])
    np.testing.assert_allclose(
        rounding_bound(np.array([1e-4, 0.0]), np.array([1000.0, 1000.0]), EPS),
        [8e-4 + 1000 * EPS, 1000 * EPS],
    )


@pytest.mark.parametrize(
    ("error", "largest", "eager_error", "message"),
    [
        (
            2e-3,
            1000.0,
            1e-4,
            r"32\.8 float32 steps .* 8 times .* 0\.0001, 20 times less, so this may be rounding: ",
        ),
        # 15.5 steps, beside PyTorch's own half a step and third of one.
        (15.5 * STEP, 1000.0, 0.5 * STEP, r"15\.5 float32 .*, 31 times less, so this may be round"),
        (15.5 * STEP, 1000.0, 0.3 * STEP, r"15\.5 float32 .*, 51\.7 times less, .* not rounding"),
        (15.5 * STEP, 1000.0, 0.0, r"15\.5 float32 .* own rounding is 0, so this is not rounding"),
        (0.1, 1000.0, 1e-4, r"1\.64e\+03 float32 steps .* 8 times .*, so this is not rounding, "),
        (2e-4, 1.0, 1e-7, r"at most 0\.0001 is allowed, the absolute bound; .* not rounding"),
        (1e-7, 1e-6, 1e-12, r"at most 1e-09 is allowed, a thousandth .* not rounding"),
    ],
)
def test_what_a_miss_says(error: float, largest: float, eager_error: float, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        raise ParityError(describe_miss(error, largest, eager_error))
