"""OpenVINO GenAI's TextEmbeddingPipeline: tokenizer, model and pooling without Python between."""

import json
from pathlib import Path

import numpy as np

from benchmarks.contenders.answers import OUTPUTS, load_tokenizer
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.openvino import convert
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "OpenVinoGenAIModel"]

_MODULES = ("openvino", "openvino_genai", "openvino_tokenizers", "torch", "transformers")


class OpenVinoGenAIModel:
    """The pipeline on a folder with model and tokenizer in OpenVINO's IR; a `LoadedModel`."""

    def __init__(self, folder: Path, model: Model, task: str, threads: int) -> None:
        """Load for latency, in float32, as the contender of OpenVINO alone is."""
        import openvino_genai

        config = json.loads((model.checkpoint(task) / "config.json").read_text())
        self._pipeline = openvino_genai.TextEmbeddingPipeline(
            str(folder),
            "CPU",
            pooling_type=openvino_genai.TextEmbeddingPipeline.PoolingType.MEAN,
            normalize=True,
            max_length=config["max_position_embeddings"],
            pad_to_max_length=False,
            PERFORMANCE_HINT="LATENCY",
            INFERENCE_NUM_THREADS=threads,
            INFERENCE_PRECISION_HINT="f32",
        )

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; the pipeline pads all texts to the longest and runs one batch."""
        return np.asarray(self._pipeline.embed_documents(texts), dtype=np.float32)


def _prepare(model: Model, task: str, folder: Path) -> None:
    """Convert model and tokenizer, with the file names that the pipeline opens."""
    import openvino
    from openvino_tokenizers import convert_tokenizer

    convert(model, task, folder / "both.xml")
    both = openvino.Core().read_model(folder / "both.xml")
    # The pipeline pools the only output, so the pooler's has to go.
    hidden = openvino.Model([both.output(OUTPUTS[task])], both.get_parameters())
    openvino.save_model(hidden, folder / "openvino_model.xml", compress_to_fp16=False)
    tokenizer = convert_tokenizer(load_tokenizer(model.checkpoint(task)))
    openvino.save_model(tokenizer, folder / "openvino_tokenizer.xml")
    config = (model.checkpoint(task) / "config.json").read_text()
    (folder / "config.json").write_text(config)


def _load(model: Model, task: str, folder: Path, threads: int) -> OpenVinoGenAIModel:
    return OpenVinoGenAIModel(folder, model, task, threads)


CONTENDERS = {
    "openvino_genai": Contender(
        "OpenVINO GenAI",
        "float32",
        ("openvino-genai", "openvino-tokenizers", "openvino", "torch", "transformers"),
        lambda: packages_missing(*_MODULES),
        _load,
        _prepare,
        tasks=("embeddings",),
    ),
}
