"""A visit to a GPU, as far as it can be tested without one: a dry run, and the driver."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx.reference import ReferenceEvaluator

from benchmarks.gpu.visit import driver, main, plan
from benchmarks.gpu.visit.bert_graph import write_graph
from benchmarks.gpu.visit.plan import Step
from benchmarks.gpu.visit.steps import pairs, timeline
from benchmarks.gpu.visit.steps import tests as tests_step
from benchmarks.gpu.visit.visit import NO_GPU, Visit
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.ops.registry import OPERATORS, REFERENCES

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", str(ROOT / "benchmarks" / "gpu_visit.py")]


def read_rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a dry run of all steps wrote, from a folder that is not the checkout."""
    out = tmp_path_factory.mktemp("visit") / "out"
    command = [*COMMAND, "--out", str(out), "--dry-run", "--seconds", "900"]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    logs = "".join(path.read_text() for path in out.glob("*.txt"))
    assert done.returncode == 0, done.stdout + done.stderr + logs[-8000:]
    return out


def test_every_step_ends_well_in_a_dry_run(dry_run: Path) -> None:
    ended = {row["step"]: row["ended"] for row in read_rows(dry_run) if "ended" in row}
    assert ended == {step.name: 0 for step in plan.STEPS}


def test_every_step_has_found_something(dry_run: Path) -> None:
    found = [row for row in read_rows(dry_run) if "ended" not in row]
    # These write files of their own.
    assert {row["step"] for row in found} == {s.name for s in plan.STEPS} - {"tests", "contenders"}
    assert "failure" not in {key for row in found for key in row}
    assert (dry_run / "junit.xml").exists()
    launches = [json.loads(line) for line in (dry_run / "tune.jsonl").read_text().splitlines()]
    assert {row["table"] for row in launches} == {"SPLIT_LINEAR", "ATTENTION"}
    assert all("us" in row for row in launches)
    # What may come back from such a machine is limited.
    assert len(list(dry_run.rglob("*"))) <= 8


def test_a_dry_run_answers_correctly(dry_run: Path) -> None:
    rows = read_rows(dry_run)
    answers = [row for row in rows if row["step"] == "answers" and "rms" in row]
    assert len(answers) == 2
    assert all(row["right"] for row in answers)
    smoke = [row for row in rows if row["step"] == "smoke" and "shape" in row]
    assert [row["replay_differs"] for row in smoke] == [0, 0]
    kernels = [row for row in rows if row["step"] == "kernels" and "kernel" in row]
    assert len(kernels) == 10
    assert all(row["right"] and row["us"] > 0 for row in kernels)


def test_variants_answer_as_the_engine_does(dry_run: Path) -> None:
    rows = [row for row in read_rows(dry_run) if row["step"] == "pairs" and "variant" in row]
    assert len(rows) == len({(row["variant"], row["shape"]) for row in rows}) == 10
    # A unit vector of 48 numbers, some of which half precision rounds otherwise.
    assert all(row["differs"] < 2e-3 for row in rows)
    assert all(row["us"] > 0 and row["default_us"] > 0 for row in rows)
    assert "dependent launches" in pairs.variants()


def test_without_a_gpu_the_visit_ends_at_once(tmp_path: Path) -> None:
    command = [*COMMAND, "--out", "out", "--only", "facts", "smoke", "--seconds", "60"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert "needs an NVIDIA GPU" in (tmp_path / "out" / "log.txt").read_text()
    ended = {row["step"]: row["ended"] for row in read_rows(tmp_path / "out") if "ended" in row}
    assert ended == {"facts": NO_GPU}


def test_an_unknown_step_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--out", str(tmp_path / "out"), "--only", "facts", "lunch"]) == 2
    assert "no step is called 'lunch': choose from export, facts" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_steps_keep_their_order(tmp_path: Path) -> None:
    assert [step.name for step in plan.choose(["tune", "facts"])] == ["facts", "tune"]
    assert plan.choose(None) == plan.STEPS


def test_both_packages_are_imported_from_the_checkout_and_its_root_is_not_on_the_path(
    tmp_path: Path,
) -> None:
    code = (
        "import runpy, sys, subprocess\n"
        "from importlib.util import find_spec\n"
        "from pathlib import Path\n"
        "runpy.run_path(sys.argv[1])['link_packages'](Path(sys.argv[2]))\n"
        "code = 'import sys, bertrt.kernels, benchmarks; print(*sys.path, bertrt.__file__)'\n"
        "print(subprocess.run([sys.executable, '-P', '-c', code], capture_output=True, text=True,"
        " check=True).stdout)\n"
        "assert find_spec('kernels') is None and find_spec('export') is None\n"
    )
    command = [sys.executable, "-P", "-c", code, COMMAND[-1], str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *path, file = done.stdout.split()
    assert file == str(tmp_path / "bertrt" / "__init__.py")
    assert not {str(ROOT), str(ROOT / "benchmarks"), ""} & set(path)


@pytest.fixture
def run_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[bool, list[dict[str, Any]]]]:
    """Run steps that are given as Python code, and return the result and the rows."""

    def run(
        codes: dict[str, str], *, seconds: float = 60, box: float = 60, beside: tuple[str, ...] = ()
    ) -> tuple[bool, list[dict[str, Any]]]:
        monkeypatch.setattr(
            driver,
            "step_command",
            lambda step, visit: [sys.executable, "-c", codes[step.name], str(visit.out)],
        )
        steps = [Step(name, box, beside=name in beside) for name in codes]
        visit = Visit(tmp_path, tmp_path, time.time() + seconds)
        return driver.run_steps(steps, visit), read_rows(tmp_path)

    return run


WRITES = "import sys; open(sys.argv[1] + '/rows.jsonl', 'a').write('{\"step\": \"a\"}\\n'); "


def test_a_step_that_crashes_loses_no_row_and_no_other_step(run_steps: Any) -> None:
    ended_well, rows = run_steps({"a": f"{WRITES} import os; os.abort()", "b": "pass"})
    assert not ended_well
    assert rows[0] == {"step": "a"}
    assert [(row["step"], row["ended"]) for row in rows[1:]] == [("a", -signal.SIGABRT), ("b", 0)]


def test_a_late_step_is_ended_with_all_that_it_started(run_steps: Any, tmp_path: Path) -> None:
    started = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(f'{sys.argv[1]}/child-{child.pid}', 'w')\n"
    )
    late = started + "time.sleep(60)"
    ended_well, rows = run_steps({"late": late, "leaves": started, "b": "pass"}, box=3)
    assert not ended_well
    assert [row["ended"] for row in rows] == ["late", 0, 0]
    children = [int(path.name.removeprefix("child-")) for path in tmp_path.glob("child-*")]
    assert len(children) == 2
    deadline = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie that nobody waits for does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_nothing_is_begun_without_time(run_steps: Any) -> None:
    ended_well, rows = run_steps({"a": WRITES}, seconds=1)
    assert not ended_well
    assert rows == [{"step": "a", "ended": "skipped: no time was left"}]


def test_no_step_follows_one_that_found_no_gpu(run_steps: Any) -> None:
    waits = "import time; time.sleep(60)"
    codes = {"a": waits, "facts": f"raise SystemExit({NO_GPU})", "b": "pass"}
    ended_well, rows = run_steps(codes, beside=("a",))
    assert not ended_well
    assert [(row["step"], row["ended"]) for row in rows] == [("facts", NO_GPU)]


def test_a_step_beside_the_others_has_a_file_of_its_own(run_steps: Any, tmp_path: Path) -> None:
    ended_well, rows = run_steps({"a": "print('apart')", "b": "print('here')"}, beside=("a",))
    assert ended_well
    assert [row["step"] for row in rows] == ["b", "a"]
    assert "apart" in (tmp_path / "a.txt").read_text()
    assert "here" in (tmp_path / "log.txt").read_text()


def test_steps_know_whether_to_interpret() -> None:
    real = driver.step_environment({"TRITON_INTERPRET": "1"}, dry_run=False, beside=False)
    assert real["TRITON_INTERPRET"] == "0"
    assert "OMP_NUM_THREADS" not in real
    dry = driver.step_environment({}, dry_run=True, beside=True)
    assert dry["TRITON_INTERPRET"] == "1"
    assert dry["OMP_NUM_THREADS"] == "4"


def test_termination_ends_the_steps(tmp_path: Path) -> None:
    command = [*COMMAND, "--out", str(tmp_path / "out"), "--dry-run", "--only", "answers"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / "out" / "log.txt"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert not [row for row in _processes() if str(tmp_path) in row]


def _processes() -> list[str]:
    rows = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            rows.append(path.read_text())
        except OSError:
            continue
    return rows


@pytest.fixture
def module() -> Any:
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=36,
        num_attention_heads=3,
        intermediate_size=44,
        num_hidden_layers=2,
        max_position_embeddings=24,
        layer_norm_eps=1e-6,
    )
    module = transformers.BertModel(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def test_the_graph_answers_as_transformers_does(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_graph(module, path, "float32")
    mask = (np.arange(11) < np.array([[7], [11], [1]])).astype(np.int64)
    random = np.random.default_rng(4)
    inputs = {
        "input_ids": random.integers(0, 50, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape) * mask,
    }
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        states = module(**tensors).last_hidden_state.numpy()
    pooled = np.stack([rows[keep == 1].mean(0) for rows, keep in zip(states, mask, strict=True)])
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    reference = ReferenceEvaluator(onnx.load(path), new_ops=REFERENCES)
    vectors, hidden = reference.run(["sentence_embedding", "last_hidden_state"], inputs)
    by_engine = TritonSession(path).run(inputs)
    for found in (hidden, by_engine["last_hidden_state"]):
        np.testing.assert_allclose(found[mask == 1], states[mask == 1], atol=2e-5)
    for found in (vectors, by_engine["sentence_embedding"]):
        np.testing.assert_allclose(found, unit, atol=1e-5)


def test_the_graph_has_the_exporters_nodes(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = make_artifact("BertModel", device="cuda", engine="triton", dtype="float16")
    exported = onnx.load(next(artifact.glob("*.onnx")), load_external_data=False)
    config = json.loads((artifact / "config.json").read_text())
    module = transformers.BertModel(transformers.BertConfig(**config))
    write_graph(module, tmp_path / "model.onnx")
    ours = onnx.load(tmp_path / "model.onnx", load_external_data=False)

    def layers(model: onnx.ModelProto) -> list[tuple[str, int, dict[str, Any]]]:
        return [
            (node.op_type, len(node.input), _attributes(node))
            for node in model.graph.node
            if node.op_type in ("EmbedLayerNorm", "Linear", "PackedAttention", "AddLayerNorm")
        ]

    *expected, pooler = layers(exported)
    assert pooler == ("Linear", 3, {"activation": "tanh", "transposed": 1})
    assert layers(ours) == expected


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes, with the operator's defaults."""
    given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    texts = {name: v.decode() if isinstance(v, bytes) else v for name, v in given.items()}
    known = OPERATORS[node.op_type].attributes
    return {
        name: pytest.approx(v) if isinstance(v, float) else v for name, v in (known | texts).items()
    }


def test_a_failure_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    visit = Visit(tmp_path, tmp_path, 0.0)
    assert not visit.measure("latency", lambda: {"ms": 1 / 0}, shape="1x8")
    assert visit.measure("latency", lambda: {"ms": np.float32(2.5)}, shape="1x9")
    assert read_rows(tmp_path) == [
        {"step": "latency", "shape": "1x8", "failure": "ZeroDivisionError: division by zero"},
        {"step": "latency", "shape": "1x9", "ms": 2.5},
    ]


def test_a_timeline_is_summed_up_by_kernel() -> None:
    events = [
        {"name": "gemm", "ts": 100.0, "dur": 10.0},
        {"name": "norm", "ts": 112.0, "dur": 3.0},
        {"name": "gemm", "ts": 1000.0, "dur": 12.0},
        {"name": "norm", "ts": 1013.0, "dur": 5.0},
    ]
    whole, gemm, norm = timeline.summarize(events[::-1], 2)
    # The pause between the two runs is not a gap.
    assert whole == {"kernels": 2, "busy_us": 15, "gap_us": 1.5}
    assert gemm == {"kernel": "gemm", "n": 1, "us": 11, "run_us": 11}
    assert norm == {"kernel": "norm", "n": 1, "us": 4, "run_us": 4}
    assert list(timeline.summarize([], 3)) == [{"kernels": 0, "busy_us": 0, "gap_us": None}]


@pytest.mark.parametrize("dry", [True, False])
def test_the_tests_to_run_exist(dry: bool, tmp_path: Path) -> None:
    arguments = tests_step.pytest_arguments(Visit(tmp_path, tmp_path, 0.0, dry_run=dry))
    paths = [argument for argument in arguments if argument.startswith("tests/")]
    assert len(paths) >= 2
    assert all((ROOT / path).exists() for path in paths)
