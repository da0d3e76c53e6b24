"""Test that selections of every row are dropped where a flag makes them so, and only there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.graph import Graph, Node, read_graph
from bertrt.kernels.engine.identity_rows import drop_identity_rows, row_flags
from bertrt.kernels.engine.plan import RowCount, make_plan
from bertrt.kernels.engine.runner import EagerRunner
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.ops.registry import OPERATORS


def node(op_type: str, inputs: str, output: str) -> Node:
    names = tuple(inputs.split())
    return Node(op_type, OPERATORS[op_type].stage, names, (output,), {"poolings": "mean"})


def graph_of(*nodes: Node, outputs: tuple[str, ...] = ("y",)) -> Graph:
    inputs = ("x", "offsets", "rows", "flag", "other")
    return Graph(inputs, outputs, nodes, frozenset(("flag", "other")))


FIRST = node("FirstRows", "offsets rows flag", "picked")
SELECT = node("SelectRows", "x picked", "selected")
OFFSETS = node("PickedOffsets", "picked offsets", "picked_offsets")
POOL = node("PoolRows", "selected picked_offsets", "y")
AGAIN = node("FirstRows", "picked_offsets picked", "again")


def inputs_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.outputs[0]: node.inputs for node in graph.nodes}


def test_a_false_flag_drops_what_it_makes_an_identity() -> None:
    graph = graph_of(FIRST, SELECT, OFFSETS, AGAIN, POOL)
    assert row_flags(graph) == {"flag"}
    assert inputs_of(drop_identity_rows(graph, ["flag"])) == {
        "picked": ("offsets", "rows", "flag"),
        "again": ("offsets", "picked"),
        "y": ("x", "offsets"),
    }


def test_selections_of_selected_rows() -> None:
    """One after the other is dropped, and the first tokens of all rows are still selected."""
    twice = node("SelectRows", "selected picked", "twice")
    firsts = node("SelectRows", "twice again", "y")
    graph = drop_identity_rows(graph_of(FIRST, SELECT, OFFSETS, AGAIN, twice, firsts), ["flag"])
    assert inputs_of(graph)["y"] == ("x", "again")


@pytest.mark.parametrize("false_flags", [[], ["other"]])
def test_other_graphs_are_unchanged(false_flags: list[str]) -> None:
    graph = graph_of(FIRST, SELECT, OFFSETS, AGAIN, POOL)
    assert drop_identity_rows(graph, false_flags) == graph
    without_flag = graph_of(node("FirstRows", "offsets rows", "picked"), SELECT, OFFSETS, POOL)
    assert row_flags(without_flag) == frozenset()
    assert drop_identity_rows(without_flag, ["flag"]) == without_flag


def test_an_output_of_the_graph_is_kept() -> None:
    graph = graph_of(FIRST, SELECT, OFFSETS, POOL, outputs=("selected", "y"))
    dropped = inputs_of(drop_identity_rows(graph, ["flag"]))
    assert dropped["selected"] == ("x", "picked")
    assert dropped["y"] == ("selected", "offsets")


def test_plans_with_and_without_the_flag(tiny_path: Path) -> None:
    graph, _ = read_graph(tiny_path)
    whole = make_plan(graph, ["logits", "pooled"])
    dropped = make_plan(drop_identity_rows(graph, row_flags(graph)), ["logits", "pooled"])
    assert whole.uploads == ("ids", "types", "positions", "offsets", "first", "picked")
    assert dropped.uploads == ("ids", "types", "positions", "offsets", "first")
    assert whole.device_results["scores"] == RowCount("picked")
    assert dropped.device_results["scores"] == RowCount("ids")
    assert whole.outputs == dropped.outputs


@pytest.mark.parametrize("on_device", [False, True])
def test_no_copy_is_launched(
    tiny_path: Path,
    make_inputs: Callable[..., Any],
    expected: Callable[..., Any],
    fake_kernels: Any,
    on_device: bool,
) -> None:
    session = TritonSession(
        tiny_path,
        kernels=fake_kernels.kernels,
        make_runner=lambda: EagerRunner(torch.device("cpu")),
    )
    run = session.run_on_device if on_device else session.run
    for flag in (False, True, False):
        fake_kernels.launched.clear()
        inputs = {**make_inputs([5, 2]), "masked_only": np.array(flag)}
        answers, reference = run(inputs), expected(inputs)
        # The pooler's selection has no flag.
        assert fake_kernels.launched.count("SelectRows") == 1 + flag
        for name, value in answers.items():
            assert tuple(value.shape) == reference[name].shape
            np.testing.assert_allclose(np.asarray(value), reference[name], rtol=1e-5, atol=1e-5)
