"""`bertrt bench`: what it measures and reports; no times are asserted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.cli.measure import format_report, measure
from bertrt.runtime import Runtime

Command = Callable[..., Any]


@pytest.mark.parametrize(
    "class_name", ["BertForMaskedLM", "BertForMultipleChoice", "BertLMHeadModel"]
)
def test_json(bertrt_command: Command, make_artifact: Callable[..., Path], class_name: str) -> None:
    shapes = ["--shapes", "1x1,3x17,1x1", "--threads", "1"]
    done = bertrt_command(
        "bench", make_artifact(class_name), "--json", "--seconds", "1e-9", *shapes
    )
    assert (done.status, done.err) == (0, "")
    report = json.loads(done.out)
    assert [result["shape"] for result in report["results"]] == ["1x1", "3x17"]
    assert (report["threads"], report["device"]) == (1, "cpu")
    for result in report["results"]:
        assert result["runs"] == 3
        assert 0 < result["p20_ms"] <= result["median_ms"] <= result["p80_ms"]
    first, second = report["results"]
    assert first["tokens_per_second"] == pytest.approx(first["texts_per_second"])
    assert second["texts_per_second"] == pytest.approx(3000 / second["median_ms"])
    assert second["tokens_per_second"] == pytest.approx(51000 / second["median_ms"])


def test_table(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    """The default shapes, shortened to the 64 tokens of this model, without duplicates."""
    done = bertrt_command("bench", make_artifact("BertForMaskedLM"), "--seconds", "0.01")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("fill-mask on CPUExecutionProvider (cpu), threads: ")
    assert [line.split()[0] for line in lines[3:]] == ["shape", "1x8", "1x32", "1x64", "8x64"]


def test_a_shape_that_is_too_long(
    bertrt_command: Command, make_artifact: Callable[..., Path]
) -> None:
    done = bertrt_command("bench", make_artifact("BertForMaskedLM"), "--shapes", "1x65")
    assert (done.status, done.out) == (1, "")
    assert "65 tokens" in done.err


def test_shapes_take_turns(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, ...]] = []

    def run(self: Runtime, *, input_ids: np.ndarray) -> dict[str, np.ndarray]:
        runs.append(input_ids.shape)
        return {}

    monkeypatch.setattr(Runtime, "run", run)
    progress: list[float] = []
    report = measure(
        make_artifact("BertForMaskedLM"),
        shapes=[(1, 2), (2, 3)],
        default_shapes=[],
        seconds=1e-9,
        threads=1,
        allow_spinning=False,
        max_batch_tokens="auto",
        progress=lambda done, total, what: progress.append(done),
    )
    assert runs == [(1, 2), *[(1, 2), (2, 3)] * 4]  # first run, warm-up, three rounds
    assert progress == sorted(progress)
    assert len(format_report(report)) == 6
