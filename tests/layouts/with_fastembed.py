"""Open folders in the hub's layout with FastEmbed, and with ONNX Runtime 1.22 alone."""

from typing import Any

import numpy as np
import onnxruntime
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from fastembed.rerank.cross_encoder import TextCrossEncoder
from tokenizers import Tokenizer

from compare import EXPECTED, ROOT, check

GRAPHS = {"onnx/model.onnx": False, "onnx/model_quantized.onnx": True}
POOLINGS = {"embedder": PoolingType.CLS, "mean": PoolingType.MEAN}


def fastembed_vectors(name: str, graph: str) -> Any:
    """Return FastEmbed's vectors."""
    model = f"test/{name}-{graph}"
    TextEmbedding.add_custom_model(
        model=model,
        pooling=POOLINGS[name],
        normalization=True,
        sources=ModelSource(hf=model),
        dim=96,
        model_file=graph,
    )
    folder = str(ROOT / name)
    return list(TextEmbedding(model, specific_model_path=folder).embed(EXPECTED["texts"]))


def fastembed_output() -> Any:
    """Return the vectors that the graph makes itself, through FastEmbed."""
    TextEmbedding.add_custom_model(
        model="test/output",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf="test/output"),
        dim=96,
        output_name="sentence_embedding",
    )
    model = TextEmbedding("test/output", specific_model_path=str(ROOT / "embedder"))
    return list(model.embed(EXPECTED["texts"]))


def fastembed_scores() -> Any:
    """Return FastEmbed's scores of the pairs, which are logits."""
    TextCrossEncoder.add_custom_model(
        model="test/reranker", model_file="onnx/model.onnx", sources=ModelSource(hf="test/reranker")
    )
    encoder = TextCrossEncoder("test/reranker", specific_model_path=str(ROOT / "reranker"))
    query = EXPECTED["pairs"][0][0]
    return list(encoder.rerank(query, [document for _, document in EXPECTED["pairs"]]))


def onnxruntime_vectors(name: str, graph: str) -> Any:
    """Return the vectors that the graph makes itself, one text at a time."""
    session = onnxruntime.InferenceSession(
        str(ROOT / name / graph), providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(ROOT / name / "tokenizer.json"))
    tokenizer.enable_truncation({"embedder": 16, "mean": 64}[name])
    vectors = []
    for text in EXPECTED["texts"]:
        encoded = tokenizer.encode(text)
        arrays = {
            "input_ids": np.array([encoded.ids]),
            "attention_mask": np.array([encoded.attention_mask]),
            "token_type_ids": np.array([encoded.type_ids]),
        }
        vectors.append(session.run(["sentence_embedding"], arrays)[0][0])
    return vectors


def main() -> None:
    """Compare everything."""
    assert onnxruntime.__version__.startswith("1.22."), onnxruntime.__version__
    for name in POOLINGS:
        for graph, int8 in GRAPHS.items():
            check("FastEmbed", name, fastembed_vectors(name, graph), int8=int8)
            what = f"onnxruntime {onnxruntime.__version__}"
            check(what, name, onnxruntime_vectors(name, graph), int8=int8)
    check("FastEmbed, output_name", "embedder", fastembed_output())
    check("FastEmbed", "reranker", fastembed_scores())


if __name__ == "__main__":
    main()
