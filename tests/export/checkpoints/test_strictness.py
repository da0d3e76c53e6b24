"""Renamed, missing, misshapen and additional variables are refused, by their names in the file."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
import safetensors.numpy
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.formats.tf_bundle import read_bundle
from bertrt.export.heads import head_for

Arrays = dict[str, np.ndarray]
Save = Callable[[Path, Arrays], None]


def load_bundle(folder: Path, stem: str) -> Arrays:
    contents = read_bundle(folder, (f"{stem}.index", f"{stem}.data-00000-of-00001"))
    return {
        name: array.read().numpy()
        for name, array in contents.arrays.items()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }


def save_h5(folder: Path, arrays: Arrays) -> None:
    with h5py.File(folder / "tf_model.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array


def load_h5(folder: Path) -> Arrays:
    arrays: Arrays = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(folder / "tf_model.h5") as file:
        file.visititems(collect)
    return arrays


def save_msgpack(folder: Path, arrays: Arrays) -> None:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.split("/")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        packed = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        at[last] = msgpack.ExtType(1, packed)
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb(tree))


def load_msgpack(folder: Path) -> Arrays:
    def leaf(code: int, data: bytes) -> np.ndarray:
        shape, kind, values = msgpack.unpackb(data)
        return np.frombuffer(values, kind).reshape(shape)

    arrays: Arrays = {}

    def walk(tree: Any, name: str) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                walk(value, f"{name}/{key}" if name else key)
        else:
            arrays[name] = tree

    walk(msgpack.unpackb((folder / "flax_model.msgpack").read_bytes(), ext_hook=leaf), "")
    return arrays


# For each case, the names of a kernel and a bias in the file, and the name of that kernel in the
# error if it is missing.
CASES = {
    "tf1-pretraining": (
        "bert/encoder/layer_1/output/dense/kernel",
        "bert/encoder/layer_1/output/dense/bias",
        "bert/encoder/layer_1/output/dense/kernel",
    ),
    "tf2-encoder": (
        "model/layer_with_weights-5/_attention_layer/_query_dense/kernel/.ATTRIBUTES/VARIABLE_VALUE",
        "model/layer_with_weights-5/_attention_layer/_query_dense/bias/.ATTRIBUTES/VARIABLE_VALUE",
        "layer_with_weights-5/_attention_layer/_query_dense/kernel",
    ),
    "h5-question-answering": (
        "bert/tf_bert_for_question_answering/bert/encoder/layer_._1/output/dense/kernel:0",
        "bert/tf_bert_for_question_answering/bert/encoder/layer_._1/output/dense/bias:0",
        "bert/encoder/layer_._1/output/dense/kernel:0",
    ),
    "msgpack-pretraining": (
        "bert/encoder/layer/1/output/dense/kernel",
        "bert/encoder/layer/1/output/dense/bias",
        "bert.encoder.layer.1.output.dense.kernel",
    ),
    "flax-safetensors-multiple-choice": (
        "bert.encoder.layer.1.output.dense.kernel",
        "bert.encoder.layer.1.output.dense.bias",
        "bert.encoder.layer.1.output.dense.kernel",
    ),
    "tf-safetensors-question-answering": (
        "bert/encoder/layer_._1/output/dense/kernel:0",
        "bert/encoder/layer_._1/output/dense/bias:0",
        "bert/encoder/layer_._1/output/dense/kernel:0",
    ),
    "roberta-h5-text-classification": (
        "roberta/tf_roberta_for_sequence_classification/roberta/encoder/layer_._1/output/dense/kernel:0",
        "roberta/tf_roberta_for_sequence_classification/roberta/encoder/layer_._1/output/dense/bias:0",
        "roberta/encoder/layer_._1/output/dense/kernel:0",
    ),
    "distilbert-flax-safetensors-question-answering": (
        "distilbert.transformer.layer.1.ffn.lin1.kernel",
        "distilbert.transformer.layer.1.ffn.lin1.bias",
        "distilbert.transformer.layer.1.ffn.lin1.kernel",
    ),
}


@pytest.fixture(params=CASES)
def change(
    request: pytest.FixtureRequest, case: Callable[[str], Path], bundles: ModuleType
) -> tuple[Callable[[Callable[[Arrays], None]], None], tuple[str, str, str]]:
    """A function that edits a case's arrays and builds a model of them, and the case's names."""
    name: str = request.param
    folder = case(name)
    task = json.loads((folder / "case.json").read_text())["task"]
    stem = "bert_model.ckpt-1" if name.startswith("tf2") else "bert_model.ckpt"

    def save(arrays: Arrays) -> None:
        if name.startswith(("tf1", "tf2")):
            bundles.bundle_of(arrays).write(folder, stem)
        elif "h5" in name:
            save_h5(folder, arrays)
        elif name.startswith("msgpack"):
            save_msgpack(folder, arrays)
        else:
            metadata = {"format": "flax" if "flax" in name else "tf"}
            safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata)

    def load() -> Arrays:
        if name.startswith(("tf1", "tf2")):
            return load_bundle(folder, stem)
        if "h5" in name:
            return load_h5(folder)
        if name.startswith("msgpack"):
            return load_msgpack(folder)
        return safetensors.numpy.load_file(folder / "model.safetensors")

    def run(edit: Callable[[Arrays], None]) -> None:
        arrays = {key: np.array(value) for key, value in load().items()}
        edit(arrays)
        save(arrays)
        build_model(head_for(task, None), open_checkpoint(str(folder)))

    return run, CASES[name]


def refusal(change: Any, edit: Callable[[Arrays], Any]) -> str:
    with pytest.raises(ExportError) as caught:
        change[0](edit)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unchanged_checkpoint_is_read(change: Any) -> None:
    change[0](lambda arrays: None)


def test_a_missing_variable(change: Any) -> None:
    kernel, _, spelled = change[1]
    message = refusal(change, lambda arrays: arrays.pop(kernel))
    assert "lacks 1 weights" in message
    assert spelled in message


def test_a_renamed_variable(change: Any) -> None:
    kernel = change[1][0]
    renamed = kernel.replace("kernel", "colonel")
    message = refusal(change, lambda arrays: arrays.update({renamed: arrays.pop(kernel)}))
    assert repr(renamed) in message


def test_an_unknown_variable(change: Any) -> None:
    bias = change[1][1]
    added = bias.replace("bias", "extra_bias")
    message = refusal(change, lambda arrays: arrays.update({added: arrays[bias]}))
    assert repr(added) in message


def test_one_layer_more_than_in_the_config(change: Any) -> None:
    kernel = change[1][0]
    added = kernel.replace("5/_att", "7/_att").replace("layer_1", "layer_2")
    added = added.replace("layer_._1", "layer_._2").replace("layer/1", "layer/2")
    added = added.replace("layer.1", "layer.2")
    assert added != kernel
    message = refusal(change, lambda arrays: arrays.update({added: arrays[kernel]}))
    assert repr(added) in message


def test_a_transposed_kernel(change: Any) -> None:
    kernel = change[1][0]
    shapes = []

    def transpose(arrays: Arrays) -> None:
        shapes.extend([list(arrays[kernel].T.shape), list(arrays[kernel].shape)])
        arrays[kernel] = np.ascontiguousarray(arrays[kernel].T)

    message = refusal(change, transpose)
    assert repr(kernel) in message
    assert f"has the shape {shapes[0]}, and the config requires {shapes[1]}" in message


def test_a_short_bias(change: Any) -> None:
    bias = change[1][1]
    message = refusal(change, lambda arrays: arrays.update({bias: arrays[bias][:-1].copy()}))
    assert repr(bias) in message


def test_integer_weights(change: Any) -> None:
    kernel = change[1][0]
    message = refusal(
        change, lambda arrays: arrays.update({kernel: arrays[kernel].astype("int32")})
    )
    assert repr(kernel) in message
    assert "only float weights" in message


def test_half_precision_is_read(change: Any) -> None:
    def halve(arrays: Arrays) -> None:
        for name in [name for name, array in arrays.items() if array.dtype == np.float32]:
            arrays[name] = arrays[name].astype(np.float16)

    change[0](halve)


def test_two_different_copies(case: Callable[[str], Path]) -> None:
    """Keras stores a layer that two others share twice; both must be equal."""
    folder = case("h5-pretraining")
    name = "mlm___cls/tf_bert_for_pre_training/bert/embeddings/LayerNorm/beta:0"
    arrays = load_h5(folder)
    save_h5(folder, arrays)
    open_checkpoint(str(folder))
    save_h5(folder, {**arrays, name: arrays[name] + 1})
    with pytest.raises(ExportError, match="different values") as caught:
        open_checkpoint(str(folder))
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("scope", ["", "tf_bert_for_question_answering_7/", "a/b/", "bert/"])
def test_a_keras_model_in_any_scope(case: Callable[[str], Path], scope: str) -> None:
    folder = case("h5-question-answering")
    expected = open_checkpoint(str(folder)).weights
    arrays = {name.split("/", 2)[2]: array for name, array in load_h5(folder).items()}
    save_h5(folder, {scope + name: array for name, array in arrays.items()})
    found = open_checkpoint(str(folder)).weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_old_word_embeddings_of_keras(case: Callable[[str], Path]) -> None:
    folder = case("h5-question-answering")
    arrays = load_h5(folder)
    name = next(name for name in arrays if "word_embeddings/weight:0" in name)
    arrays[name.replace("weight:0", "embeddings:0")] = arrays.pop(name)
    save_h5(folder, arrays)
    assert "bert.embeddings.word_embeddings.weight" in open_checkpoint(str(folder)).weights


@pytest.mark.parametrize(
    "name",
    [
        "global_step",
        "beta1_power",
        "bert/pooler/dense/kernel/adam_m",
        "bert/pooler/dense/kernel/adam_v",
        "bert/pooler/dense/kernel/AdamWeightDecayOptimizer",
        "bert/pooler/dense/kernel/AdamWeightDecayOptimizer_1",
        "bert/pooler/dense/bias/lamb_m",
        "output_weights/Adam_1",
    ],
)
def test_training_variables_are_ignored(
    case: Callable[[str], Path], bundles: ModuleType, name: str
) -> None:
    folder = case("tf1-pretraining")
    arrays = load_bundle(folder, "bert_model.ckpt")
    bundles.bundle_of({**arrays, name: np.zeros(3, np.float32)}).write(folder)
    assert len(open_checkpoint(str(folder)).weights) == len(arrays)


def test_ignored_variables_are_not_read(case: Callable[[str], Path], bundles: Any) -> None:
    folder = case("tf1-pretraining")
    bundle = bundles.bundle_of(load_bundle(folder, "bert_model.ckpt"))
    bundle.add("bert/pooler/dense/kernel/adam_m", np.zeros((8, 8), np.float32))
    bundle.entries["bert/pooler/dense/kernel/adam_m"].checksum ^= 1
    bundle.write(folder)
    open_checkpoint(str(folder))


def test_the_number_of_heads_must_be_the_stored_one(case: Callable[[str], Path]) -> None:
    """Only the model garden stores it; with another number the answers would be silently wrong."""
    folder = case("tf2-encoder")
    config = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps({**config, "num_attention_heads": 4}))
    with pytest.raises(ExportError, match=r"_dense/\w+/.* has the shape"):
        open_checkpoint(str(folder))


def test_a_config_of_a_billion_layers(case: Callable[[str], Path]) -> None:
    folder = case("tf1-pretraining")
    config = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    with pytest.raises(ExportError, match="num_hidden_layers is 1000000000"):
        open_checkpoint(str(folder))


def test_the_trained_pooler_is_used(case: Callable[[str], Path], bundles: ModuleType) -> None:
    """The model garden's next sentence head has a pooler; the encoder's own is not trained."""
    folder, stem = case("tf2-pretraining"), "bert_model.ckpt-1"
    arrays = load_bundle(folder, stem)
    own = "encoder/layer_with_weights-6/{}/.ATTRIBUTES/VARIABLE_VALUE"
    trained = "next_sentence..pooler_dense/{}/.ATTRIBUTES/VARIABLE_VALUE"
    for last in ("kernel", "bias"):
        assert not np.array_equal(arrays[own.format(last)], arrays[trained.format(last)])
    weights = open_checkpoint(str(folder)).weights
    assert np.array_equal(weights["bert.pooler.dense.bias"], arrays[trained.format("bias")])
    for last in ("kernel", "bias"):
        del arrays[trained.format(last)]
    bundles.bundle_of(arrays).write(folder, stem)
    weights = open_checkpoint(str(folder)).weights
    assert np.array_equal(weights["bert.pooler.dense.bias"], arrays[own.format("bias")])


def test_a_missing_head_is_named_as_in_the_file(case: Callable[[str], Path]) -> None:
    with pytest.raises(ExportError, match="cls/squad/output_weights, cls/squad/output_bias"):
        build_model(
            head_for("question-answering", None), open_checkpoint(str(case("tf1-pretraining")))
        )
