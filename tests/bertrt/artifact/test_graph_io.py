"""Names of graph inputs and outputs: those that the exporter writes and the runtime looks for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.artifact.graph_io import (
    ATTENTIONS,
    FIRST_TOKEN_ONLY,
    HIDDEN_STATES,
    LAYER_OUTPUTS,
    MASKED_ONLY,
    PAST,
    PRESENT,
    SENTENCE_EMBEDDING,
    TOKEN_FLAGS,
)
from bertrt.artifact.manifest import TensorSpec
from bertrt.heads import HEADS

MODEL_INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
TARGETS = [("cpu", None), ("cuda", "triton"), ("cuda", "ort"), ("any", None)]


def read_specs(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return the manifest's inputs and outputs, which must be the graph's own."""
    import onnx

    artifact = Artifact.open(path)
    inputs, outputs = artifact.manifest.graph.inputs, artifact.manifest.graph.outputs
    graph = onnx.load(artifact.graph_path(), load_external_data=False).graph
    assert [spec.name for spec in inputs] == [value.name for value in graph.input]
    assert [spec.name for spec in outputs] == [value.name for value in graph.output]
    return list(inputs), list(outputs)


@pytest.mark.parametrize(("device", "engine"), TARGETS)
@pytest.mark.parametrize(
    ("class_name", "flag"),
    [("BertModel", FIRST_TOKEN_ONLY), ("BertForMaskedLM", MASKED_ONLY)],
)
def test_flags_are_optional_inputs(
    make_artifact: Callable[..., Path], class_name: str, flag: str, device: str, engine: str | None
) -> None:
    dtype = "float32" if device == "cuda" else None
    inputs, _ = read_specs(make_artifact(class_name, device=device, engine=engine, dtype=dtype))
    # Standard graphs, and the CUDA provider's, compute every token.
    expected = [TensorSpec(flag, "bool", (), optional=True)]
    skips_tokens = device == "cpu" or engine == "triton"
    assert [spec for spec in inputs if spec.name not in MODEL_INPUTS] == expected * skips_tokens


def test_every_head_reads_tokens_that_a_flag_selects() -> None:
    assert {head.tokens for head in HEADS.values()} <= set(TOKEN_FLAGS)
    assert set(TOKEN_FLAGS.values()) == {None, FIRST_TOKEN_ONLY, MASKED_ONLY}


@pytest.mark.parametrize(("device", "engine"), [("cpu", None), ("cuda", "ort")])
def test_the_vector_is_an_optional_output(
    make_artifact: Callable[..., Path], device: str, engine: str | None
) -> None:
    dtype = "float32" if device == "cuda" else None
    _, outputs = read_specs(make_artifact("BertModel", device=device, engine=engine, dtype=dtype))
    optional = [spec for spec in outputs if spec.optional]
    assert [spec.name for spec in optional] == [SENTENCE_EMBEDDING]
    assert {spec.shape for spec in optional} == {("batch", 32)}
    assert {spec.dtype for spec in optional} == {"float32"}


def test_the_cache_is_numbered_by_layer(make_artifact: Callable[..., Path]) -> None:
    inputs, outputs = read_specs(make_artifact("BertLMHeadModel"))
    kinds = [f"{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
    past = {spec.name for spec in inputs if spec.name not in MODEL_INPUTS}
    assert past == {f"{PAST}.{kind}" for kind in kinds}
    present = {spec.name for spec in outputs if spec.name != "logits"}
    assert present == {f"{PRESENT}.{kind}" for kind in kinds}


def test_layer_outputs_are_numbered_by_layer(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    from bertrt.export import export

    checkpoint = make_checkpoint("BertForSequenceClassification")
    export(checkpoint, tmp_path / "out", output_hidden_states=True, output_attentions=True)
    _, outputs = read_specs(tmp_path / "out")
    names = {spec.name for spec in outputs} - {"logits"}
    states = {f"{HIDDEN_STATES}.{layer}" for layer in range(3)}
    assert names == states | {f"{ATTENTIONS}.{layer}" for layer in range(2)}
    assert {name.partition(".")[0] for name in names} == set(LAYER_OUTPUTS)
