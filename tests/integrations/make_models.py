"""Write an embedder, and the vectors that the recipes have to give.

Run in the development environment: `python make_models.py DIRECTORY`. The vectors are those of
sentence-transformers, in DIRECTORY/expected.json; the artifact is DIRECTORY/embedder.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from bertrt.export import export
from random_checkpoint import write_checkpoint

TEXTS = [
    "Plants create oxygen.",
    "A cat sat on the mat, and the dog ran after it through the garden until the sun went down.",
    "The sun is a star",
    "",
]
PACKAGE = "sentence_transformers.models."
FILES: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{PACKAGE}Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{PACKAGE}Pooling"},
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": 96, "pooling_mode_mean_tokens": True},
    "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {"query": "who: ", "document": "text: "}},
}


def main() -> None:
    """Write DIRECTORY/embedder and DIRECTORY/expected.json."""
    root = Path(sys.argv[1])
    checkpoint = root / "checkpoint"
    write_checkpoint(checkpoint, "BertModel", files=FILES)
    export(checkpoint, root / "embedder")
    model = SentenceTransformer(str(checkpoint), device="cpu")
    expected = {
        "plain": model.encode(TEXTS),
        "query": model.encode_query(TEXTS),
        "document": model.encode_document(TEXTS),
        "unit": model.encode(TEXTS, normalize_embeddings=True),
        "unit_24": model.encode(TEXTS, normalize_embeddings=True, truncate_dim=24),
        "prompt": model.encode(TEXTS, prompt="Plants "),
        "binary": model.encode(TEXTS, precision="ubinary"),
        "similarity": model.similarity(model.encode(TEXTS), model.encode(TEXTS)).numpy(),
    }
    for other in ("query", "document"):
        assert np.abs(expected["plain"] - expected[other]).min(axis=1).max() > 1e-4, other
    texts = {name: array.tolist() for name, array in expected.items()}
    (root / "expected.json").write_text(json.dumps(texts | {"texts": TEXTS}), encoding="utf-8")


if __name__ == "__main__":
    main()
