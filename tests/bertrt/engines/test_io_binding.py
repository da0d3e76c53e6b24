"""Runs on bound buffers equal plain runs and never return stale values; on the CPU provider.

The CPU provider ignores the ids of CUDA graphs: where a GPU replays a graph, it runs again on the
same buffers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bertrt.engines import io_binding as module
from bertrt.engines.io_binding import CaptureError, IoBindings
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import InputError

# The tiny models have so many positions: not a multiple of 8.
LONGEST = 18
HEADS = ["BertModel", "BertForMultipleChoice", "BertForQuestionAnswering", "BertLMHeadModel"]
SHAPES = [(1, 3), (2, 9), (1, 8), (3, 18), (1, 5), (2, 9), (5, 1), (1, 3), (3, 17), (1, 16)]
Graph = Callable[[str], Path]


class RecordingSession:
    """A session that records each run's graph id, and raises `fails` for runs with a graph."""

    def __init__(self, path: Path, fails: str = "") -> None:
        self.session = open_session(path, OrtOptions("basic", threads=1))
        self.fails = fails
        self.ids: list[int] = []
        self.bound: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.ids.append(int(options.get_run_config_entry("gpu_graph_id")))
        self.bound.append(binding)
        if self.fails and self.ids[-1] != -1:
            raise RuntimeError(self.fails)
        self.session.run_with_iobinding(binding, options)


@pytest.fixture(scope="module")
def graph(make_artifact: Callable[..., Path]) -> Graph:
    def make(class_name: str) -> Path:
        path = make_artifact(
            class_name,
            device="cuda",
            engine="ort",
            dtype="float32",
            max_position_embeddings=LONGEST,
        )
        return path / "model.onnx"

    return make


def make_inputs(
    batch: int, length: int, *, seed: int = 0, choices: int = 0
) -> dict[str, np.ndarray]:
    """Return rows of different lengths, of which the first is full."""
    random = np.random.default_rng(seed + 100 * batch + length)
    lengths = random.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    inputs = {
        "input_ids": random.integers(5, 200, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    if choices:
        inputs = {name: np.stack([array] * choices, axis=1) for name, array in inputs.items()}
        inputs["input_ids"][:, 1:, 0] = 7
    return inputs


def run_plain(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = open_session(path, OrtOptions("basic", threads=1))
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def check_equal(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() <= expected.keys()
    for name, value in got.items():
        assert value.shape == expected[name].shape
        # Padding adds zeros, which changes the order of sums.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("graphs", [True, False])
def test_any_sequence_of_shapes_equals_plain_runs(
    graph: Graph, class_name: str, graphs: bool
) -> None:
    path = graph(class_name)
    bindings = IoBindings(RecordingSession(path), "cpu", graphs=graphs, longest=LONGEST)
    choices = 2 * (class_name == "BertForMultipleChoice")
    answers = []
    for seed, (batch, length) in enumerate(SHAPES * 2):
        inputs = make_inputs(batch, length, seed=seed, choices=choices)
        answers.append((bindings.run(inputs, None), run_plain(path, inputs)))
    # Compared at the end: later runs must not change what was returned before.
    for got, expected in answers:
        check_equal(got, expected)
    # Lengths are rounded up to multiples of 8, and 17 and 18 to the number of positions.
    assert len(bindings) == (5 if graphs else 0)


def test_arrays_of_the_caller_are_not_shared(graph: Graph) -> None:
    bindings = IoBindings(RecordingSession(graph("BertModel")), "cpu", graphs=True, longest=LONGEST)
    first, second = make_inputs(2, 8, seed=1), make_inputs(2, 8, seed=2)
    kept = {name: value.copy() for name, value in first.items()}
    before = bindings.run(first, None)
    saved = {name: value.copy() for name, value in before.items()}
    after = bindings.run(second, None)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
    for name, value in saved.items():
        np.testing.assert_array_equal(before[name], value)
        assert not np.array_equal(after[name], value)
        assert not np.shares_memory(after[name], before[name])
        before[name][:] = np.nan
    for name, value in bindings.run(first, None).items():
        np.testing.assert_array_equal(value, saved[name])


def test_each_shape_has_one_graph_id_and_one_binding(graph: Graph) -> None:
    session = RecordingSession(graph("BertModel"))
    bindings = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    for batch, length in [(1, 3), (2, 3), (1, 8), (1, 9), (2, 1), (1, 3)]:
        # A graph computes all outputs, whichever are requested.
        bindings.run(make_inputs(batch, length), ["pooler_output"] if batch == 1 else None)
    assert session.ids == [1, 2, 1, 3, 2, 1]
    assert len({id(binding) for binding in session.bound}) == 3
    assert session.bound[0] is session.bound[2] is session.bound[5]


def test_only_requested_outputs_are_returned(graph: Graph) -> None:
    for graphs in (True, False):
        bindings = IoBindings(
            RecordingSession(graph("BertModel")), "cpu", graphs=graphs, longest=LONGEST
        )
        inputs = make_inputs(2, 5)
        names = ["sentence_embedding", "last_hidden_state"]
        got = bindings.run(inputs, names)
        assert list(got) == names
        check_equal(got, run_plain(graph("BertModel"), inputs))


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("_MOST_GRAPHS", 2, [1, 2, -1, -1, 1, 2, -1, -1]),
        ("_MOST_TOKENS", 16, [1, 2, -1, -1, 1, 2, -1, -1]),
        # Buffers of 2 x 8 tokens take about 3,000 bytes, and those of 3 x 8 more than is left.
        ("_MOST_BYTES", 7000, [1, 2, -1, -1, 1, 2, -1, -1]),
    ],
)
def test_runs_beyond_the_limits_have_no_graph(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: list[int]
) -> None:
    monkeypatch.setattr(module, limit, value)
    path = graph("BertModel")
    session = RecordingSession(path)
    bindings = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    for batch in (1, 2, 3, 4) * 2:
        inputs = make_inputs(batch, 7)
        check_equal(bindings.run(inputs, None), run_plain(path, inputs))
    assert session.ids == expected
    assert len(bindings) == 2


def test_no_run_has_a_graph_when_graphs_are_off(graph: Graph) -> None:
    session = RecordingSession(graph("BertModel"), fails="no graph may be used")
    bindings = IoBindings(session, "cpu", graphs=False, longest=LONGEST)
    for _ in range(3):
        bindings.run(make_inputs(1, 4), None)
    assert session.ids == [-1] * 3


def test_a_failed_capture_has_its_own_error(graph: Graph) -> None:
    session = RecordingSession(
        graph("BertModel"), fails="CUDA failure 900: operation not permitted"
    )
    bindings = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    with pytest.raises(CaptureError, match="CUDA failure 900"):
        bindings.run(make_inputs(1, 4), None)
    assert len(bindings) == 0


def test_a_graph_with_an_output_of_unknown_size_runs_without_padding(tmp_path: Path) -> None:
    """Padding would change the number of its rows."""
    integers = TensorProto.INT64
    graph = helper.make_graph(
        [
            helper.make_node("Equal", ["input_ids", "input_ids"], ["all"]),
            helper.make_node("NonZero", ["all"], ["found"]),
        ],
        "sized",
        [helper.make_tensor_value_info("input_ids", integers, ["batch", "sequence"])],
        [helper.make_tensor_value_info("found", integers, [2, "count"])],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    session = RecordingSession(tmp_path / "m.onnx")
    bindings = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    assert (bindings.unknown, bindings.graphs) == ("found", False)
    assert bindings.run({"input_ids": np.ones((2, 3), np.int64)}, None)["found"].shape == (2, 6)
    assert session.ids == [-1]


def test_every_exported_graph_has_outputs_of_known_size(graph: Graph) -> None:
    for class_name in HEADS:
        bindings = IoBindings(
            RecordingSession(graph(class_name)), "cpu", graphs=True, longest=LONGEST
        )
        assert bindings.graphs
        names = [spec.name for spec in bindings.session.get_inputs()]
        assert names == ["input_ids", "attention_mask", "token_type_ids"]


def test_wrong_inputs_are_refused(graph: Graph) -> None:
    bindings = IoBindings(RecordingSession(graph("BertModel")), "cpu", graphs=True, longest=LONGEST)
    inputs = make_inputs(2, 5)
    with pytest.raises(InputError, match="token_type_ids is missing"):
        bindings.run({name: inputs[name] for name in ("input_ids", "attention_mask")}, None)
    with pytest.raises(InputError, match=r"attention_mask has shape \[2, 4\], which is not"):
        bindings.run({**inputs, "attention_mask": inputs["attention_mask"][:, :4]}, None)
    with pytest.raises(InputError, match=r"input_ids has shape \[5\]"):
        bindings.run({**inputs, "input_ids": inputs["input_ids"][0]}, None)
    check_equal(bindings.run(inputs, None), run_plain(graph("BertModel"), inputs))


def test_integers_of_any_width_are_accepted(graph: Graph) -> None:
    path = graph("BertModel")
    bindings = IoBindings(RecordingSession(path), "cpu", graphs=True, longest=LONGEST)
    inputs = make_inputs(2, 5)
    small = {name: value.astype(np.int32) for name, value in inputs.items()}
    check_equal(bindings.run(small, None), run_plain(path, inputs))
