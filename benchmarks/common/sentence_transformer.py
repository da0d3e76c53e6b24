"""sentence-transformers: how its contenders build a model and run it, as its documentation does."""

import numpy as np

from models import Model

__all__ = ["SentenceTransformerContender"]


class SentenceTransformerContender:
    """A transformer, mean pooling and normalization in a row."""

    def __init__(
        self, model: Model, task: str, threads: int, *, device: str = "cpu", half: bool = False
    ) -> None:
        """Load the checkpoint on a device, in float16 if `half`."""
        import torch
        from sentence_transformers import SentenceTransformer, models

        torch.set_num_threads(threads)
        transformer = models.Transformer(str(model.checkpoint(task)))
        pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
        modules = [transformer, pooling, models.Normalize()]
        self._model = SentenceTransformer(modules=modules, device=device)
        if half:
            self._model.half()
        self._device = device

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """What `encode` does for a batch, from token ids; see `contender.Contender`."""
        import torch

        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        with torch.inference_mode():
            features = {
                name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()
            }
            return np.asarray(self._model(features)["sentence_embedding"].float().cpu().numpy())

    def answer(self, texts: list[str]) -> np.ndarray:
        """Its own batches: 32 texts of like length."""
        vectors = self._model.encode(texts, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)
