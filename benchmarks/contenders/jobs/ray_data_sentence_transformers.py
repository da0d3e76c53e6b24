"""A corpus embedded by sentence-transformers on Ray Data, as the documentation of both has it.

Usage: ray_data_sentence_transformers.py CHECKPOINT THREADS INPUT OUTPUT
"""

import sys

import numpy as np
import ray

ROWS = 1024


class Embed:
    """A model in an actor."""

    def __init__(self, checkpoint: str, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(checkpoint, device="cpu")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        texts = batch.pop("text").tolist()
        vectors = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return {**batch, "embedding": vectors}


checkpoint, threads, source, output = sys.argv[1:]
# The actor has the CPUs of the run; reading and writing are scheduled on one more.
ray.init(num_cpus=int(threads) + 1, include_dashboard=False, logging_level="warning")
ray.data.read_parquet(source).map_batches(
    Embed,
    fn_constructor_args=(checkpoint, int(threads)),
    num_cpus=int(threads),
    compute=ray.data.ActorPoolStrategy(size=1),
    batch_size=ROWS,
).write_parquet(output)
ray.shutdown()
