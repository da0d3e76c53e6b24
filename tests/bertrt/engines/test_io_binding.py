"""A session's own buffers, on the CPU provider: the same answers as a plain run, and never stale.

The CPU provider ignores the ids of CUDA graphs, so that what is captured on a GPU is run again
here, on the same buffers.
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

# The longest that the tiny models have positions for is no multiple of 8.
LONGEST = 18
HEADS = ["BertModel", "BertForMultipleChoice", "BertForQuestionAnswering", "BertLMHeadModel"]
SHAPES = [(1, 3), (2, 9), (1, 8), (3, 18), (1, 5), (2, 9), (5, 1), (1, 3), (3, 17), (1, 16)]
Graph = Callable[[str], Path]


class Recorded:
    """A session that notes each run's graph id, and fails those with a graph if it is told to."""

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


def feeds_of(batch: int, length: int, *, seed: int = 0, choices: int = 0) -> dict[str, np.ndarray]:
    """Rows of different lengths, the first one full."""
    random = np.random.default_rng(seed + 100 * batch + length)
    lengths = random.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    feeds = {
        "input_ids": random.integers(5, 200, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    if choices:
        feeds = {name: np.stack([one] * choices, axis=1) for name, one in feeds.items()}
        feeds["input_ids"][:, 1:, 0] = 7
    return feeds


def plain(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = open_session(path, OrtOptions("basic", threads=1))
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() <= expected.keys()
    for name, value in got.items():
        assert value.shape == expected[name].shape
        # Padding adds terms of zero, and so another order of sums.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("class_name", HEADS)
@pytest.mark.parametrize("graphs", [True, False])
def test_shapes_in_turn_equal_plain_runs(graph: Graph, class_name: str, graphs: bool) -> None:
    path = graph(class_name)
    one = IoBindings(Recorded(path), "cpu", graphs=graphs, longest=LONGEST)
    choices = 2 * (class_name == "BertForMultipleChoice")
    answers = []
    for seed, (batch, length) in enumerate(SHAPES * 2):
        feeds = feeds_of(batch, length, seed=seed, choices=choices)
        answers.append((one.run(feeds, None), plain(path, feeds)))
    # Only now: a later run has changed nothing that was returned before.
    for got, expected in answers:
        check(got, expected)
    # Five lengths up to 8 are one, and 17 and 18 are that of the last position.
    assert len(one) == (5 if graphs else 0)


def test_the_callers_arrays_stay_the_callers(graph: Graph) -> None:
    one = IoBindings(Recorded(graph("BertModel")), "cpu", graphs=True, longest=LONGEST)
    first, second = feeds_of(2, 8, seed=1), feeds_of(2, 8, seed=2)
    kept = {name: value.copy() for name, value in first.items()}
    before = one.run(first, None)
    saved = {name: value.copy() for name, value in before.items()}
    after = one.run(second, None)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
    for name, value in saved.items():
        np.testing.assert_array_equal(before[name], value)
        assert not np.array_equal(after[name], value)
        assert not np.shares_memory(after[name], before[name])
        before[name][:] = np.nan
    for name, value in one.run(first, None).items():
        np.testing.assert_array_equal(value, saved[name])


def test_each_shape_has_one_id_and_one_binding(graph: Graph) -> None:
    session = Recorded(graph("BertModel"))
    one = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    for batch, length in [(1, 3), (2, 3), (1, 8), (1, 9), (2, 1), (1, 3)]:
        # A graph computes all outputs: which are wanted makes no other.
        one.run(feeds_of(batch, length), ["pooler_output"] if batch == 1 else None)
    assert session.ids == [1, 2, 1, 3, 2, 1]
    assert len({id(binding) for binding in session.bound}) == 3
    assert session.bound[0] is session.bound[2] is session.bound[5]


def test_wanted_outputs_only(graph: Graph) -> None:
    for graphs in (True, False):
        one = IoBindings(Recorded(graph("BertModel")), "cpu", graphs=graphs, longest=LONGEST)
        feeds = feeds_of(2, 5)
        names = ["mean_embedding", "last_hidden_state"]
        got = one.run(feeds, names)
        assert list(got) == names
        check(got, plain(graph("BertModel"), feeds))


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("_MOST_GRAPHS", 2, [1, 2, -1, -1, 1, 2, -1, -1]),
        ("_MOST_TOKENS", 16, [1, 2, -1, -1, 1, 2, -1, -1]),
        # Outputs of 2 x 8 tokens are some 3,000 bytes; 3 x 8 are above the rest.
        ("_MOST_BYTES", 7000, [1, 2, -1, -1, 1, 2, -1, -1]),
    ],
)
def test_beyond_the_bounds_runs_have_no_graph(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: list[int]
) -> None:
    monkeypatch.setattr(module, limit, value)
    path = graph("BertModel")
    session = Recorded(path)
    one = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    for batch in (1, 2, 3, 4) * 2:
        feeds = feeds_of(batch, 7)
        check(one.run(feeds, None), plain(path, feeds))
    assert session.ids == expected
    assert len(one) == 2


def test_without_graphs_no_run_has_one(graph: Graph) -> None:
    session = Recorded(graph("BertModel"), fails="none may be asked for")
    one = IoBindings(session, "cpu", graphs=False, longest=LONGEST)
    for _ in range(3):
        one.run(feeds_of(1, 4), None)
    assert session.ids == [-1] * 3


def test_a_capture_that_fails_is_told_apart(graph: Graph) -> None:
    session = Recorded(graph("BertModel"), fails="CUDA failure 900: operation not permitted")
    one = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    with pytest.raises(CaptureError, match="CUDA failure 900"):
        one.run(feeds_of(1, 4), None)
    assert len(one) == 0


def test_an_output_of_unknown_size_has_no_graph_and_no_padding(tmp_path: Path) -> None:
    """Its rows would count the padding's."""
    integers = TensorProto.INT64
    made = helper.make_graph(
        [
            helper.make_node("Equal", ["input_ids", "input_ids"], ["all"]),
            helper.make_node("NonZero", ["all"], ["found"]),
        ],
        "sized",
        [helper.make_tensor_value_info("input_ids", integers, ["batch", "sequence"])],
        [helper.make_tensor_value_info("found", integers, [2, "count"])],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    session = Recorded(tmp_path / "m.onnx")
    one = IoBindings(session, "cpu", graphs=True, longest=LONGEST)
    assert (one.unknown, one.graphs) == ("found", False)
    assert one.run({"input_ids": np.ones((2, 3), np.int64)}, None)["found"].shape == (2, 6)
    assert session.ids == [-1]


def test_no_graph_for_this_target_has_an_output_of_unknown_size(graph: Graph) -> None:
    for class_name in HEADS:
        one = IoBindings(Recorded(graph(class_name)), "cpu", graphs=True, longest=LONGEST)
        assert one.graphs
        names = [spec.name for spec in one.session.get_inputs()]
        assert names == ["input_ids", "attention_mask", "token_type_ids"]


def test_inputs_that_do_not_fit(graph: Graph) -> None:
    one = IoBindings(Recorded(graph("BertModel")), "cpu", graphs=True, longest=LONGEST)
    feeds = feeds_of(2, 5)
    with pytest.raises(InputError, match="token_type_ids is missing"):
        one.run({name: feeds[name] for name in ("input_ids", "attention_mask")}, None)
    with pytest.raises(InputError, match=r"attention_mask has shape \[2, 4\], which is not"):
        one.run({**feeds, "attention_mask": feeds["attention_mask"][:, :4]}, None)
    with pytest.raises(InputError, match=r"input_ids has shape \[5\]"):
        one.run({**feeds, "input_ids": feeds["input_ids"][0]}, None)
    check(one.run(feeds, None), plain(graph("BertModel"), feeds))


def test_integers_of_any_size_are_taken(graph: Graph) -> None:
    path = graph("BertModel")
    one = IoBindings(Recorded(path), "cpu", graphs=True, longest=LONGEST)
    feeds = feeds_of(2, 5)
    small = {name: value.astype(np.int32) for name, value in feeds.items()}
    check(one.run(small, None), plain(path, feeds))
