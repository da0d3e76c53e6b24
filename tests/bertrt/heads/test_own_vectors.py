"""`embed` gives a model's own vector: by the files that sentence-transformers saved beside it."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertrt
from bertrt.errors import InputError
from bertrt.scheduling.batch_runner import BatchRunner

TEXTS = [
    "Mary lives in London.",
    "",
    "who is the president",
    "\u4e2d\u56fd\u4eba caf\u00e9",
    "the cat sat on the mat " * 20,
]
# The graph's numbers differ from PyTorch's by rounding, which is far below this.
ATOL = 1e-5
Make = Callable[..., tuple[Any, Path]]


@pytest.fixture
def make(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Make:
    """A factory: the settings of sentence-transformers' files to a runtime and the folder."""

    def build(
        pooling: dict[str, Any],
        *,
        normalize: bool = False,
        dense: tuple[torch.nn.Linear, str] | None = None,
        settings: dict[str, Any] | None = None,
        transformer: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[Any, Path]:
        from bertrt.export import export

        folder = tmp_path / "model"
        shutil.copytree(make_checkpoint("BertModel"), folder)
        modules = ["Transformer", "Pooling"]
        modules += ["Dense"] * (dense is not None) + ["Normalize"] * normalize
        entries = [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{name}" if i else "",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(entries))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings or {}))
        (folder / "sentence_bert_config.json").write_text(json.dumps(transformer or {}))
        if dense is not None:
            layer, activation = dense
            sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
            config = {**sizes, "bias": True, "activation_function": activation}
            (folder / "2_Dense").mkdir()
            (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
            weights = {f"linear.{name}": tensor for name, tensor in layer.state_dict().items()}
            torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")
        export(folder, tmp_path / "out", task="feature-extraction", **options)
        return bertrt.load(tmp_path / "out", threads=1), folder

    return build


def hidden_states(folder: Path, texts: Sequence[str], limit: int) -> list[np.ndarray]:
    """Return each text's last hidden states, float32 [S, H], in PyTorch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    states = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
            states.append(model(**inputs).last_hidden_state[0].numpy())
    return states


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("device", ["cpu", "any"])
@pytest.mark.parametrize(
    ("pooling", "vector"),
    [
        ({"pooling_mode": "cls"}, lambda h: h[0]),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda h: h[0]),
        ({"pooling_mode_mean_tokens": True}, lambda h: h.mean(axis=0)),
        ({"pooling_mode": ["max"]}, lambda h: h.max(axis=0)),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            lambda h: np.concatenate([h[0], h.mean(axis=0)]),
        ),
    ],
)
def test_pooling_and_scaling(
    make: Make,
    pooling: dict[str, Any],
    vector: Callable[[np.ndarray], np.ndarray],
    normalize: bool,
    device: str,
) -> None:
    rt, folder = make(pooling, normalize=normalize, device=device)
    expected = [vector(h) for h in hidden_states(folder, TEXTS, 64)]
    expected = [unit(v) for v in expected] if normalize else expected
    np.testing.assert_allclose(rt.embed(TEXTS), np.stack(expected), atol=ATOL)
    for text, one in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(rt.embed(text), one, atol=ATOL)
    mean = np.stack([unit(h.mean(axis=0)) for h in hidden_states(folder, TEXTS, 64)])
    overridden = rt.embed(TEXTS, pooling="mean", normalize=True)
    np.testing.assert_allclose(overridden, mean, atol=ATOL)


@pytest.mark.parametrize("device", ["cpu", "any"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_dense_module(make: Make, device: str, normalize: bool) -> None:
    """As in LaBSE: the first token's state through a Dense with tanh, and then scaled."""
    torch.manual_seed(5)
    layer = torch.nn.Linear(32, 7)
    activation = "torch.nn.modules.activation.Tanh"
    rt, folder = make(
        {"pooling_mode": "cls"}, dense=(layer, activation), normalize=normalize, device=device
    )
    states = torch.from_numpy(np.stack([h[0] for h in hidden_states(folder, TEXTS, 64)]))
    with torch.no_grad():
        expected = torch.tanh(layer(states)).numpy()
    scaled = np.stack([unit(vector) for vector in expected])
    own = scaled if normalize else expected
    np.testing.assert_allclose(rt.embed(TEXTS), own, atol=ATOL)
    np.testing.assert_allclose(rt.embed(TEXTS, normalize=True), scaled, atol=ATOL)
    short = expected[:, :3] / np.linalg.norm(expected[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(rt.embed(TEXTS, normalize=True, dimensions=3), short, atol=ATOL)
    with pytest.raises(InputError, match="pooling is 'mean', but this model's graph makes its"):
        rt.embed(TEXTS, pooling="mean")
    if normalize:
        with pytest.raises(
            InputError, match=r"normalize is False, but .* of cls by Dense, Normalize: l"
        ):
            rt.embed(TEXTS, normalize=False)
    with pytest.raises(InputError, match="dimensions is 8, but this model has 7"):
        rt.embed(TEXTS, dimensions=8)


def test_the_first_token_is_enough_where_the_model_pools_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    original = BatchRunner.run

    def run(self: Any, *, outputs: Any = None, **arrays: Any) -> Any:
        fetched.append((list(outputs), bool(arrays.get("first_token_only", False))))
        return original(self, outputs=outputs, **arrays)

    monkeypatch.setattr(BatchRunner, "run", run)
    rt, _ = make({"pooling_mode": "cls"}, normalize=True)
    rt.embed(TEXTS[0])
    assert fetched == [(["sentence_embedding"], True)]
    rt.run(outputs=["sentence_embedding"], first_token_only=True, **rt.tokenize(TEXTS[0]))


def test_a_transformer_in_a_subfolder(
    make: Make, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    from bertrt.export import export

    plain, folder = make({"pooling_mode": "max"}, transformer={"max_seq_length": 12})
    nested = tmp_path / "nested"
    shutil.copytree(folder, nested / "0_Transformer")
    for name in ("modules.json", "1_Pooling", "config_sentence_transformers.json"):
        shutil.move(nested / "0_Transformer" / name, nested / name)
    modules = json.loads((nested / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (nested / "modules.json").write_text(json.dumps(modules))
    export(nested, tmp_path / "other", task="feature-extraction")
    with bertrt.load(tmp_path / "other", threads=1) as rt:
        assert rt.info["embedding"] == plain.info["embedding"]
        np.testing.assert_array_equal(rt.embed(TEXTS), plain.embed(TEXTS))


def test_the_length_limit_is_the_models_own(make: Make) -> None:
    rt, folder = make({"pooling_mode": "mean"}, transformer={"max_seq_length": 12})
    expected = np.stack([h.mean(axis=0) for h in hidden_states(folder, TEXTS, 12)])
    assert max(map(len, hidden_states(folder, TEXTS, 12))) == 12
    assert rt.info["truncated"] == 0
    np.testing.assert_allclose(rt.embed(TEXTS), expected, atol=ATOL)
    assert rt.info["truncated"] == 1
    assert rt.info["embedding"]["max_length"] == 12
    with pytest.raises(InputError, match="the limit is 12"):
        rt.embed(TEXTS, truncation=False)
    longer = np.stack([h.mean(axis=0) for h in hidden_states(folder, TEXTS, 30)])
    np.testing.assert_allclose(rt.embed(TEXTS, max_length=30), longer, atol=ATOL)


def test_a_limit_above_the_positions(make: Make) -> None:
    rt, _ = make({"pooling_mode": "mean"}, transformer={"max_seq_length": 4096})
    assert rt.info["embedding"]["max_length"] == 64


def test_prompts(make: Make) -> None:
    prompts = {"query": "who is ", "passage": "the "}
    settings = {"prompts": prompts, "default_prompt_name": "passage"}
    rt, folder = make({"pooling_mode": "mean"}, settings=settings)

    def expected(prompt: str) -> np.ndarray:
        states = hidden_states(folder, [prompt + text for text in TEXTS], 64)
        return np.stack([h.mean(axis=0) for h in states])

    for vectors, prompt in (
        (rt.embed(TEXTS), "the "),
        (rt.embed(TEXTS, prompt=""), ""),
        (rt.embed(TEXTS, prompt="a ", prompt_name="query"), "a "),
        (rt.embed(TEXTS, prompt_name="query"), "who is "),
        (rt.embed_query(TEXTS), "who is "),
        (rt.embed_query(TEXTS, prompt="a "), "a "),
        # sentence-transformers 6 has an empty prompt "document" beside those of the file.
        (rt.embed_document(TEXTS), ""),
        (rt.embed_document(TEXTS, prompt_name="passage"), "the "),
    ):
        np.testing.assert_allclose(vectors, expected(prompt), atol=ATOL)
    with pytest.raises(InputError, match=r"prompt_name is 'q', .* query, document, passage"):
        rt.embed("a", prompt_name="q")


def test_pairs(make: Make) -> None:
    rt, folder = make({"pooling_mode": "mean"}, transformer={"max_seq_length": 24})
    pairs = [("who is", "Mary"), ("who is", ""), ("", "the cat"), ("", ""), (TEXTS[-1], "a cat")]
    # A list of pairs, as sentence-transformers tokenizes them: an empty text makes a pair too.
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(pairs, padding=True, truncation=True, max_length=24, return_tensors="pt")
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    expected = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    np.testing.assert_allclose(rt.embed(pairs), expected, atol=ATOL)
    alone = np.stack([rt.embed(pair) for pair in pairs])
    np.testing.assert_allclose(alone, expected, atol=ATOL)


def test_a_prompt_that_is_not_pooled(make: Make) -> None:
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    rt, folder = make(pooling, normalize=True, settings={"prompts": {"query": "who is the "}})
    states = hidden_states(folder, [f"who is the {text}" for text in TEXTS], 64)
    # [CLS] and three words.
    expected = np.stack([unit(h[4:].mean(axis=0)) for h in states])
    np.testing.assert_allclose(rt.embed_query(TEXTS), expected, atol=ATOL)
    plain = np.stack([unit(h.mean(axis=0)) for h in hidden_states(folder, TEXTS, 64)])
    np.testing.assert_allclose(rt.embed(TEXTS), plain, atol=ATOL)


def test_saved_dimensions_are_cut_after_scaling(make: Make) -> None:
    rt, folder = make({"pooling_mode": "cls"}, normalize=True, settings={"truncate_dim": 5})
    expected = np.stack([unit(h[0])[:5] for h in hidden_states(folder, TEXTS, 64)])
    np.testing.assert_allclose(rt.embed(TEXTS), expected, atol=ATOL)
    shorter = np.stack([unit(h[0][:7]) for h in hidden_states(folder, TEXTS, 64)])
    np.testing.assert_allclose(rt.embed(TEXTS, dimensions=7), shorter, atol=ATOL)


@pytest.mark.parametrize("name", [None, "cosine", "dot", "euclidean", "manhattan"])
def test_similarity(make: Make, name: str | None) -> None:
    rt, _ = make({"pooling_mode": "cls"}, settings={"similarity_fn_name": name})
    random = np.random.default_rng(1)
    a, b = (
        torch.from_numpy(random.normal(size=(3, 8))),
        torch.from_numpy(random.normal(size=(4, 8))),
    )
    expected = {
        "cosine": torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T,
        "dot": a @ b.T,
        "euclidean": -torch.cdist(a, b, p=2),
        "manhattan": -torch.cdist(a, b, p=1),
    }[name or "cosine"]
    np.testing.assert_allclose(rt.similarity(a.numpy(), b.numpy()), expected, atol=1e-5)
    assert rt.similarity(a[0].numpy(), b.numpy()).shape == (1, 4)


def test_an_artifact_without_such_files(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    assert rt.info["embedding"]["pooling"] == ("mean",)
    with pytest.raises(InputError, match="pass truncation=True"):
        rt.embed(TEXTS)
    vectors = rt.embed(TEXTS[:3])
    np.testing.assert_array_equal(rt.embed_query(TEXTS[:3]), vectors)
    np.testing.assert_allclose(np.diag(rt.similarity(vectors, vectors)), 1, atol=1e-6)
