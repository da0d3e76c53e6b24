"""Open folders in the hub's layout with Optimum."""

from typing import Any

import torch
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification
from transformers import AutoTokenizer

from compare import EXPECTED, ROOT, check


def vectors(name: str, file: str) -> Any:
    """Return unit vectors, pooled here, as Optimum leaves that to its caller."""
    model = ORTModelForFeatureExtraction.from_pretrained(
        ROOT / name, subfolder="onnx", file_name=file
    )
    tokenizer = AutoTokenizer.from_pretrained(ROOT / name)
    inputs = tokenizer(EXPECTED["texts"], padding=True, truncation=True, return_tensors="pt")
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None]
    pooled = {"embedder": hidden[:, 0], "mean": (hidden * mask).sum(dim=1) / mask.sum(dim=1)}
    return torch.nn.functional.normalize(pooled[name], dim=-1).numpy()


def scores() -> Any:
    """Return the logits of the pairs; Optimum finds the only graph by itself."""
    model = ORTModelForSequenceClassification.from_pretrained(ROOT / "reranker")
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "reranker")
    pairs = EXPECTED["pairs"]
    inputs = tokenizer(pairs, padding=True, truncation=True, return_tensors="pt")
    return model(**inputs).logits[:, 0].numpy()


def main() -> None:
    """Compare everything."""
    for name in ("embedder", "mean"):
        check("Optimum", name, vectors(name, "model.onnx"))
        check("Optimum", name, vectors(name, "model_quantized.onnx"), int8=True)
    check("Optimum", "reranker", scores())


if __name__ == "__main__":
    main()
