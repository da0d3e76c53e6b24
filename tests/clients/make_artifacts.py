"""Write the models that the clients talk to, and the answers that they have to get.

Run in the development environment: `python make_artifacts.py DIRECTORY`. The answers are those of
the runtime, in DIRECTORY/expected.json; each model is in DIRECTORY/<name>.
"""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bertrt
import inputs
from bertrt.export import export
from bertrt.heads.base import TokenIds
from random_checkpoint import VOCABULARY, write_checkpoint


def labelled(*labels: str) -> dict[str, Any]:
    """Return a config's entries for labels."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: id for id, label in enumerate(labels)},
    }


# The class and the config's changes of each model.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedder": ("BertModel", {}),
    "reranker": ("BertForSequenceClassification", {"num_labels": 1}),
    "sentiment": (
        "BertForSequenceClassification",
        labelled("negative", "neutral", "positive"),
    ),
    "nli": (
        "BertForSequenceClassification",
        labelled("contradiction", "neutral", "entailment"),
    ),
    "tagger": ("BertForTokenClassification", labelled("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    "filler": ("BertForMaskedLM", {}),
    "reader": ("BertForQuestionAnswering", {}),
    "writer": ("BertLMHeadModel", {"is_decoder": True, "eos_token_id": 3}),
}
# What sentence-transformers writes beside a model: the sizes of real ones, in tokens and numbers.
EMBEDDER_FILES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": 96, "pooling_mode_mean_tokens": True},
    "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "text: "}},
}


def main() -> None:
    """Write DIRECTORY/<name> for each model, and DIRECTORY/expected.json."""
    root = Path(sys.argv[1])
    for seed, name in enumerate(MODELS):
        write_model(root / "checkpoints" / name, name, seed)
        export(root / "checkpoints" / name, root / name)
    write_colbert(root / "checkpoints" / "colbert", root / "checkpoints" / "embedder")
    export(root / "checkpoints" / "colbert", root / "colbert")
    runtimes = {name: bertrt.load(root / name, threads=1) for name in MODELS}
    answers = expected(**runtimes)
    with bertrt.load(root / "colbert", threads=1) as colbert:
        answers["colbert"] = list(colbert.embed_tokens(inputs.TEXTS, kind="document"))
    check(answers)
    text = json.dumps(answers, default=lambda value: value.tolist())
    (root / "expected.json").write_text(text, encoding="utf-8")
    for runtime in runtimes.values():
        runtime.close()


def write_model(folder: Path, name: str, seed: int) -> None:
    """Write the checkpoint of a model of MODELS."""
    class_name, changes = MODELS[name]
    files = EMBEDDER_FILES if name == "embedder" else None
    write_checkpoint(
        folder, class_name, seed=seed, files=files, max_position_embeddings=512, **changes
    )


def write_colbert(folder: Path, base: Path) -> None:
    """Write a ColBERT checkpoint in Stanford's form, from an encoder's."""
    base = base.rename(base.with_name("encoder"))
    vocabulary = base / "vocab.txt"
    lines = vocabulary.read_text(encoding="utf-8").splitlines()
    # Two tokens that give their ids to the markers of queries and documents.
    vocabulary.write_text("\n".join([*lines[:-2], "£", "€"]) + "\n", encoding="utf-8")
    # By its path: beside it is a folder that Python would take for the package bertrt.
    path = Path(__file__).parents[1] / "colbert_folders.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    folders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(folders)
    settings = {"query_maxlen": 16, "doc_maxlen": 64, "dim": folders.SIZE}
    folders.save_stanford(base, folder, settings)


def expected(
    embedder: bertrt.Runtime,
    reranker: bertrt.Runtime,
    sentiment: bertrt.Runtime,
    nli: bertrt.Runtime,
    tagger: bertrt.Runtime,
    filler: bertrt.Runtime,
    reader: bertrt.Runtime,
    writer: bertrt.Runtime,
) -> dict[str, Any]:
    """Return the answers, by the names that the clients' tests use."""
    texts, pairs = inputs.TEXTS, [(inputs.QUERY, document) for document in inputs.DOCUMENTS]
    ids = [embedder.tokenizer.encode(text).ids for text in texts]
    # [CLS] and [SEP] are two of the tokens that fit.
    kept = 128 - 2
    assert len(embedder.tokenizer.encode(" ".join(inputs.WORDS[:kept])).ids) == 128
    return {
        "vocabulary": VOCABULARY,
        "ids": ids,
        "tokens": sum(map(len, ids)),
        "decoded": [embedder.tokenizer.decode(one) for one in ids],
        "embed": embedder.embed(texts, normalize=True),
        "embed_raw": embedder.embed(texts, normalize=False),
        "embed_64": embedder.embed(texts, normalize=True, dimensions=64),
        "embed_query": embedder.embed(texts, normalize=True, prompt_name="query"),
        "embed_ids": embedder.embed([TokenIds(tuple(one[1:-1])) for one in ids], normalize=True),
        "arrays": embedder.tokenize(texts),
        "embed_empty": embedder.embed("", normalize=True),
        "embed_beginning": embedder.embed(" ".join(inputs.WORDS[:kept]), normalize=True),
        "embed_end": embedder.embed(" ".join(inputs.WORDS[-kept:]), normalize=True),
        "embed_documents": embedder.embed(inputs.DOCUMENTS, normalize=False),
        "hidden": [answer[0] for answer in embedder(texts)],
        "pooler": embedder.run(**embedder.tokenize(texts))["pooler_output"],
        "cosines": embedder.similarity(
            embedder.embed(inputs.QUERY, normalize=True),
            embedder.embed(inputs.DOCUMENTS, normalize=True),
        )[0],
        "scores": reranker.score(pairs, activation="sigmoid"),
        "scores_raw": reranker.score(pairs, activation="identity"),
        "score_long": reranker.score((inputs.QUERY, inputs.LONG), activation="sigmoid"),
        "sentiment": sentiment(texts, top_k=None),
        "sentiment_raw": sentiment(texts, top_k=None, function_to_apply="none"),
        "sentiment_sigmoid_2": sentiment(texts[0], top_k=2, function_to_apply="sigmoid"),
        "nli": nli(inputs.PAIR, top_k=None),
        "zero_shot": nli(texts[0], candidate_labels=inputs.CANDIDATES),
        "zero_shot_multi": nli(texts[0], candidate_labels=inputs.CANDIDATES, multi_label=True),
        "tags": tagger(texts[1], aggregation_strategy="simple"),
        "tags_none": tagger(texts[1], aggregation_strategy="none"),
        "filled": filler(inputs.MASKED),
        "filled_targets": filler(inputs.MASKED, targets=["oxygen", "sugar"], top_k=2),
        "filled_twice": filler(inputs.MASKED_TWICE, top_k=3),
        "answer": reader(inputs.QUESTION),
        "answers": reader(inputs.QUESTION, top_k=3),
        "written": writer(texts[0], max_new_tokens=6, do_sample=False)[0],
        "written_seed_5": writer(texts[0], max_new_tokens=6, seed=5)[0],
    }


def check(answers: dict[str, Any]) -> None:
    """Check that no two texts have nearly the same answer: a wrong row would pass for another."""
    for name in ("scores", "scores_raw"):
        ranked = sorted(map(float, answers[name]))
        assert min(b - a for a, b in itertools.pairwise(ranked)) > 1e-3, (name, ranked)
    for name in ("embed", "embed_64", "embed_query"):
        products = answers[name] @ answers[name].T - np.eye(len(inputs.TEXTS))
        assert products.max() < 0.999, name
    assert abs(answers["embed_beginning"] - answers["embed_end"]).max() > 1e-2
    assert answers["tags"]


if __name__ == "__main__":
    main()
