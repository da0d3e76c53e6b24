"""Write checkpoints and their exports in the hub's layout, and the vectors that they have to give.

Run in the development environment: `python make_hub.py DIRECTORY`. The answers are those of
sentence-transformers, in DIRECTORY/expected.json; the folders are DIRECTORY/embedder, with CLS
pooling and a limit of 16 tokens, DIRECTORY/mean and DIRECTORY/reranker, of which the first two have
an int8 graph too. Names are owner/name below DIRECTORY, as transformers.js looks for local models.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from bertrt.export import export
from random_checkpoint import write_checkpoint

TEXTS = [
    "Plants create oxygen.",
    "A cat sat on the mat, and the dog ran after it through the garden until the sun went down.",
    "The sun is a star",
    "water",
]
PAIRS = [("Which animal sat there?", text) for text in TEXTS]
# Pooling and limit of each encoder, as sentence-transformers 5.4 spells them.
ENCODERS = {"embedder": ("cls", 16), "mean": ("mean", 64)}


def main() -> None:
    """Write everything."""
    root = Path(sys.argv[1])
    expected: dict[str, Any] = {"texts": TEXTS, "pairs": PAIRS}
    for seed, (name, (pooling, limit)) in enumerate(ENCODERS.items()):
        checkpoint = root / "checkpoints" / name
        write_checkpoint(checkpoint, "BertModel", seed=seed, files=settings(pooling, limit))
        (checkpoint / "2_Normalize").mkdir()
        export(checkpoint, root / name, layout="hub", dtype="int8")
        vectors = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
        products = vectors @ vectors.T
        assert products[~torch.eye(len(TEXTS), dtype=bool).numpy()].max() < 0.99, products
        expected[name] = vectors.tolist()
    checkpoint = root / "checkpoints" / "reranker"
    write_checkpoint(checkpoint, "BertForSequenceClassification", seed=2, num_labels=1)
    export(checkpoint, root / "reranker", layout="hub")
    model = CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity())
    expected["reranker"] = model.predict(PAIRS).tolist()
    (root / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


def settings(pooling: str, limit: int) -> dict[str, Any]:
    """Return what sentence-transformers saves beside a transformer, by the files' paths."""
    base = "sentence_transformers.base.modules."
    types = {
        "": f"{base}transformer.Transformer",
        "1_Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": f"{base}normalize.Normalize",
    }
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": name}
        for index, (path, name) in enumerate(types.items())
    ]
    return {
        "modules.json": entries,
        "1_Pooling/config.json": {"embedding_dimension": 96, "pooling_mode": pooling},
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
    }


if __name__ == "__main__":
    main()
