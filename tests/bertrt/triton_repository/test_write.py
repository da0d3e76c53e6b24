"""Repositories: their files and configurations, their graphs in ONNX Runtime, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bertrt.artifact.directory import Artifact
from bertrt.errors import ArtifactError, ExportError
from bertrt.triton_repository import write
from bertrt.triton_repository.graph_kinds import least_triton
from bertrt.triton_repository.model_config import Settings
from bertrt.triton_repository.write import write_repository

TEXTS = ["The cat sat on the mat.", "", "paris is the capital of france, and berlin of germany"]
# A session of ONNX Runtime with other options adds in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def with_text_graph(
    make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An embedder with a graph that takes text."""
    pytest.importorskip("onnxruntime_extensions")
    from bertrt.export import export

    output = tmp_path_factory.mktemp("text") / "artifact"
    export(make_checkpoint("BertModel"), output, with_tokenizer=True)
    return output


def names(tensors: Any) -> dict[str, list[int]]:
    return {one.name: list(one.dims) for one in tensors}


@pytest.mark.parametrize(
    ("class_name", "inputs", "optional", "outputs"),
    [
        ("BertModel", {"text": [1], "text_pair": [1]}, ["text_pair"], {"embedding": [32]}),
        (
            "BertForSequenceClassification",
            {"text": [1], "text_pair": [1]},
            ["text_pair"],
            {"label": [3], "score": [3]},
        ),
        ("BertForMaskedLM", {"text": [1]}, [], {"answer": [1]}),
        ("BertForQuestionAnswering", {"text": [1], "text_pair": [1]}, [], {"answer": [1]}),
        ("BertForMultipleChoice", {"text": [1], "text_pair": [-1]}, [], {"answer": [1]}),
    ],
)
def test_kind_python(
    repository: Callable[..., Path],
    make_artifact: Callable[..., Path],
    read_config: Callable[[Path], Any],
    class_name: str,
    inputs: dict[str, list[int]],
    optional: list[str],
    outputs: dict[str, list[int]],
) -> None:
    root = repository(make_artifact(class_name), "python", max_batch=7, queue=9, threads=2)
    assert {path.name for path in root.iterdir()} == {"README.md", "model"}
    assert {path.name for path in (root / "model").iterdir()} == {"1", "config.pbtxt"}
    assert {path.name for path in (root / "model" / "1").iterdir()} == {"artifact", "model.py"}
    config = read_config(root / "model")
    assert (config.name, config.backend, config.max_batch_size) == ("model", "python", 7)
    assert names(config.input) == inputs
    assert [one.name for one in config.input if one.optional] == optional
    assert names(config.output) == outputs
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (9, 30_000_000)
    assert policy.allow_timeout_override
    assert policy.timeout_action == type(policy).TimeoutAction.Value("REJECT")
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, type(group).Kind.Value("KIND_CPU"))
    values = {name: value.string_value for name, value in config.parameters.items()}
    assert values == {"gives": "answers", "threads": "2", "truncation": "true"}
    readme = (root / "README.md").read_text(encoding="utf-8")
    for name in (*inputs, *outputs):
        assert f"`{name}`" in readme
    assert "{" not in readme


def test_kind_text(
    repository: Callable[..., Path],
    with_text_graph: Path,
    read_config: Callable[[Path], Any],
) -> None:
    """The graph runs from its folder, with the options and inputs that Triton gives it."""
    import bertrt

    extensions = pytest.importorskip("onnxruntime_extensions")
    root = repository(with_text_graph, "text", op_library="/opt/ops.so")
    config = read_config(root / "model")
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model_text.onnx")
    assert names(config.input) == {"text": [1]}
    assert list(config.input[0].reshape.shape) == []
    assert config.input[0].HasField("reshape")
    assert names(config.output) == {"sentence_embedding": [32]}
    assert list(config.model_operations.op_library_filename) == ["/opt/ops.so"]
    assert config.max_batch_size == 64
    assert not config.parameters

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(extensions.get_library_path())
    graph = root / "model" / "1" / config.default_model_filename
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    # What Triton's backend may give: inputs that have no default.
    assert [one.name for one in session.get_inputs()] == ["text"]
    (vectors,) = session.run(["sentence_embedding"], {"text": np.array(TEXTS, object)})
    with bertrt.load(with_text_graph, threads=1) as runtime:
        expected = runtime.embed(TEXTS)
    assert vectors == pytest.approx(expected, abs=TOLERANCE)
    assert np.abs(expected - expected[::-1]).max() > 100 * TOLERANCE
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "`/opt/ops.so`" in readme
    assert "Triton 25.09" in readme


@pytest.mark.parametrize("class_name", ["BertModel", "BertForSequenceClassification"])
@pytest.mark.parametrize("device", ["cpu", "any"])
def test_kind_ensemble(
    repository: Callable[..., Path],
    make_artifact: Callable[..., Path],
    load_artifact: Callable[..., Any],
    read_config: Callable[[Path], Any],
    class_name: str,
    device: str,
) -> None:
    """The steps fit each other, and each graph file runs on what the tokenizer gives."""
    path = make_artifact(class_name, device=device)
    root = repository(path, "ensemble", threads=2)
    folders = {"model", "model_graph", "model_tokenizer"}
    assert {path.name for path in root.iterdir()} == {"README.md", *folders}
    ensemble, graph, tokenizer = (read_config(root / name) for name in sorted(folders))
    assert (ensemble.platform, graph.backend, tokenizer.backend) == (
        "ensemble",
        "onnxruntime",
        "python",
    )
    steps = {step.model_name: step for step in ensemble.ensemble_scheduling.step}
    first, second = steps["model_tokenizer"], steps["model_graph"]
    assert set(first.input_map) == set(names(tokenizer.input)) == set(names(ensemble.input))
    assert set(first.output_map) == set(names(tokenizer.output)) == set(names(graph.input))
    assert dict(second.input_map) == dict(first.output_map)
    is_vector = class_name == "BertModel"
    given, size = ("sentence_embedding", 32) if is_vector else ("logits", 3)
    assert names(graph.output) == {given: [size]}
    assert dict(second.output_map) == {given: "embedding" if is_vector else given}
    assert names(ensemble.output) == {second.output_map[given]: [size]}
    assert graph.parameters["intra_op_thread_count"].string_value == "2"
    assert [path.name for path in (root / "model" / "1").iterdir()] == [".keep"]

    runtime = load_artifact(class_name, device=device)
    arrays = runtime.tokenize(TEXTS)
    missing = ((0, 0), (0, 64 - arrays["input_ids"].shape[1]))
    padded = {name: np.pad(array, missing) for name, array in arrays.items()}
    expected = runtime.embed(TEXTS) if is_vector else runtime.run(**arrays)["logits"]
    files = [graph.default_model_filename]
    files += [variant.file for variant in Artifact.open(path).manifest.graph.variants]
    assert len(files) == (2 if device == "cpu" else 1)
    for file in files:
        session = onnxruntime.InferenceSession(
            root / "model_graph" / "1" / file, providers=["CPUExecutionProvider"]
        )
        assert {one.name for one in session.get_inputs()} == set(names(graph.input))
        (values,) = session.run([given], padded)
        assert values == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)


def refused(directory: Path, output: Path, kind: str, name: str = "model", **settings: Any) -> str:
    """Return the error of a repository that is not written; nothing may be left."""
    before = set(output.parent.iterdir())
    with pytest.raises(ExportError) as raised:
        write_repository(directory, output, kind, Settings(name, **settings))
    assert set(output.parent.iterdir()) == before
    return str(raised.value)


def test_what_is_refused(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    path = make_artifact("BertModel")
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "file", "link"):
        assert "exists: choose another output" in refused(path, tmp_path / name, "python")
    for name in ("", "..", ".hidden", "a/b", "a b", "ä", "a" * 201, "README.md"):
        assert "the model's name is" in refused(path, tmp_path / "out", "python", name)
    for setting in ("max_batch", "queue", "threads"):
        error = refused(path, tmp_path / "out", "python", **{setting: 2**31})
        assert error == (
            f"--{setting.replace('_', '-')} is 2147483648: Triton reads no number above 2147483647"
        )
    error = refused(path, tmp_path / "out", "text", op_library="/opt/\udcff.so")
    assert error == "--op-library is '/opt/\\udcff.so': give a path in UTF-8"
    assert "no graph that takes text" in refused(path, tmp_path / "out", "text")
    masked = make_artifact("BertForMaskedLM")
    for kind in ("text", "ensemble"):
        assert "not for fill-mask: use --kind python" in refused(masked, tmp_path / "out", kind)
    kernels = make_artifact("BertModel", device="cuda", engine="triton")
    assert "engine triton" in refused(kernels, tmp_path / "out", "ensemble")
    with pytest.raises(ArtifactError, match="not a directory"):
        write_repository(tmp_path / "missing", tmp_path / "out", "python", Settings("model"))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"dimensions": 8}, "ensemble", "keeps the first 8 of 32 numbers"),
        (
            {"prompts": {"query": "q: "}, "default_prompt_name": "query"},
            "text",
            "puts its prompt 'query' before each text",
        ),
        (
            {
                "prompts": {"query": "q: "},
                "default_prompt_name": "query",
                "include_prompt": False,
            },
            "ensemble",
            "leaves the tokens of its prompt 'query' out",
        ),
    ],
)
def test_a_graph_that_alone_gives_other_vectors_is_refused(
    make_artifact: Callable[..., Path],
    tmp_path: Path,
    changes: dict[str, Any],
    kind: str,
    message: str,
) -> None:
    path = tmp_path / "artifact"
    shutil.copytree(make_artifact("BertModel"), path)
    manifest = json.loads((path / "bertrt.json").read_text(encoding="utf-8"))
    manifest["embedding"] |= changes
    (path / "bertrt.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert message in refused(path, tmp_path / "out", kind)
    write_repository(path, tmp_path / "out", "python", Settings("model"))


def test_truncation_of_a_text_graph(with_text_graph: Path, tmp_path: Path) -> None:
    message = refused(with_text_graph, tmp_path / "out", "text", truncation=False)
    assert "leave out --no-truncation" in message


def test_a_damaged_artifact_leaves_nothing(
    make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "artifact"
    shutil.copytree(make_artifact("BertModel"), path)
    with (path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match="not the file that was exported"):
        write_repository(path, tmp_path / "out", "python", Settings("model"))
    assert {one.name for one in tmp_path.iterdir()} == {"artifact"}


def test_a_failure_while_it_writes_leaves_nothing(
    make_artifact: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(write, "readme", fail)
    with pytest.raises(OSError, match="no space left"):
        write_repository(make_artifact("BertModel"), tmp_path / "out", "python", Settings("model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("onnxruntime", "release"),
    [
        ("1.23.0", "25.09"),
        ("1.23.1", "26.01"),
        ("1.24.1", "26.02"),
        ("1.27.0", "26.07"),
        ("2.0.0", None),
    ],
)
def test_releases_of_triton(onnxruntime: str, release: str | None) -> None:
    assert least_triton(onnxruntime) == release
