"""`ModelOutput`: the fields of transformers' output classes, hidden states and attentions too."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertrt
from bertrt.arrays.model_output import ModelOutput
from bertrt.errors import ExportError, InputError
from bertrt.export import export

# A model without a head, a head for two targets, one with a cache, and one with choices.
HEADS = [
    ("BertModel", "cpu"),
    ("BertForPreTraining", "cpu"),
    ("BertForPreTraining", "any"),
    ("BertLMHeadModel", "cpu"),
    ("BertForMultipleChoice", "cpu"),
]
IDS = np.array([[2, 7, 8, 4, 9, 3], [2, 9, 3, 0, 0, 0]])
MASK = (IDS != 0).astype(np.int64)


@pytest.mark.parametrize(("class_name", "device"), HEADS)
def test_fields_are_those_of_transformers(
    class_name: str, device: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(class_name)
    options = {"output_hidden_states": True, "output_attentions": True}
    export(checkpoint, tmp_path / "out", device=device, **options)  # type: ignore[arg-type]
    model = getattr(transformers, class_name).from_pretrained(
        checkpoint, attn_implementation="eager"
    )
    ids, mask = (IDS[None], MASK[None]) if class_name == "BertForMultipleChoice" else (IDS, MASK)
    with torch.inference_mode():
        theirs = model.eval()(torch.tensor(ids), attention_mask=torch.tensor(mask), **options)
    with bertrt.load(tmp_path / "out") as rt:
        ours = rt.run(input_ids=ids, attention_mask=mask)
    states, weights = ours.hidden_states, ours["attentions"]
    assert [array.shape for array in states] == [tuple(t.shape) for t in theirs.hidden_states]
    assert [array.shape for array in weights] == [tuple(t.shape) for t in theirs.attentions]
    real = MASK.astype(bool)
    for array, tensor in zip(states, theirs.hidden_states, strict=True):
        np.testing.assert_allclose(array[real], tensor.numpy()[real], atol=1e-4)
    for array, tensor in zip(weights, theirs.attentions, strict=True):
        np.testing.assert_allclose(array.sum(axis=-1)[:, 0][real], 1, atol=1e-5)
        for row, text in enumerate(real):
            kept = array[row][:, text], tensor.numpy()[row][:, text]
            np.testing.assert_allclose(*kept, atol=1e-4)
            assert (kept[0][:, :, ~text] == 0).all()  # padding gets no attention
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert getattr(ours, name).shape == tuple(value.shape)


def test_answers_do_not_fetch_layer_outputs(
    make_checkpoint: Callable[..., Path],
    load_artifact: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = make_checkpoint("BertForSequenceClassification")
    export(checkpoint, tmp_path / "out", output_attentions=True)
    plain = load_artifact("BertForSequenceClassification")
    with bertrt.load(tmp_path / "out") as rt:
        fetched: list[Any] = []
        session = rt._pool.wide.session
        run = session.run
        monkeypatch.setattr(
            session, "run", lambda inputs, names: fetched.append(names) or run(inputs, names)
        )
        ours, theirs = rt("a cat sat", top_k=None), plain("a cat sat", top_k=None)
        assert [entry["label"] for entry in ours] == [entry["label"] for entry in theirs]
        np.testing.assert_allclose(
            [entry["score"] for entry in ours], [entry["score"] for entry in theirs], atol=1e-5
        )
        assert fetched == [["logits"]]
        assert set(rt.run(input_ids=IDS)) == {"logits", "attentions"}


def test_chosen_layer_outputs(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    export(make_checkpoint("BertModel"), tmp_path / "out", output_hidden_states=True)
    with bertrt.load(tmp_path / "out") as rt:
        everything = rt.run(input_ids=IDS)
        assert set(everything) == {"last_hidden_state", "pooler_output", "hidden_states"}
        states = everything.hidden_states
        assert states[-1] is everything.last_hidden_state
        only_states = rt.run(input_ids=IDS, outputs=["hidden_states"])
        assert set(only_states) == {"hidden_states"}
        assert len(only_states.hidden_states) == len(states)
        chosen = rt.run(input_ids=IDS, outputs=["hidden_states.1", "pooler_output"])
        assert list(chosen) == ["hidden_states.1", "pooler_output"]
        np.testing.assert_array_equal(chosen["hidden_states.1"], states[1])
        with pytest.raises(InputError, match="unknown output 'attentions'"):
            rt.run(input_ids=IDS, outputs=["attentions"])
        with pytest.raises(AttributeError, match="no output 'attentions', only last_hidden_state"):
            _ = everything.attentions
        vectors = rt.embed(["a cat", "it is"])
        assert vectors.shape[0] == 2


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"dtype": "int8", "device": "cpu"}])
def test_layer_outputs_of_int8_graphs_are_refused(
    options: dict[str, Any], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="hidden states and attentions are given in float32"):
        export(make_checkpoint("BertModel"), tmp_path / "out", output_attentions=True, **options)
    assert not (tmp_path / "out").exists()


def test_a_model_output_has_keys_attributes_and_positions() -> None:
    output = ModelOutput(logits=1, hidden_states=(2, 3))
    assert output.logits == output["logits"] == output[0] == 1
    assert output[1:] == ((2, 3),)
    assert output.to_tuple() == (1, (2, 3))
    assert dict(output) == {"logits": 1, "hidden_states": (2, 3)}
    assert "logits" in dir(output)
    for copied in (pickle.loads(pickle.dumps(output)), copy.deepcopy(output)):
        assert isinstance(copied, ModelOutput)
        assert copied == output
    assert not hasattr(output, "attentions")
    with pytest.raises(KeyError):
        output["attentions"]
