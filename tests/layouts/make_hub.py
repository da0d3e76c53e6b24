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
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer

import bertrt.export.demo
from bertrt.export import export

DEMO = Path(bertrt.export.demo.__file__).parent
VOCABULARY = Tokenizer.from_file(str(DEMO / "tokenizer.json")).get_vocab_size()
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
        write_checkpoint(checkpoint, "BertModel", seed)
        write_modules(checkpoint, pooling, limit)
        export(checkpoint, root / name, layout="hub", dtype="int8")
        vectors = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
        products = vectors @ vectors.T
        assert products[~torch.eye(len(TEXTS), dtype=bool).numpy()].max() < 0.99, products
        expected[name] = vectors.tolist()
    checkpoint = root / "checkpoints" / "reranker"
    write_checkpoint(checkpoint, "BertForSequenceClassification", 2, num_labels=1)
    export(checkpoint, root / "reranker", layout="hub")
    model = CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity())
    expected["reranker"] = model.predict(PAIRS).tolist()
    (root / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


def write_checkpoint(folder: Path, class_name: str, seed: int, **changes: Any) -> None:
    """Write a checkpoint with random weights, so large that each text gets its own answer."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=64,
        initializer_range=0.1,
        **changes,
    )
    torch.manual_seed(seed)
    getattr(transformers, class_name)(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / file).write_bytes((DEMO / file).read_bytes())


def write_modules(folder: Path, pooling: str, limit: int) -> None:
    """Write what sentence-transformers saves beside a transformer."""
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
    files = {
        "modules.json": entries,
        "1_Pooling/config.json": {"embedding_dimension": 96, "pooling_mode": pooling},
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
    }
    (folder / "2_Normalize").mkdir()
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main()
