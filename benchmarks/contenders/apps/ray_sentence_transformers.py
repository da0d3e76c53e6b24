"""sentence-transformers by Ray Serve, as its documentation writes it: `@serve.batch`.

The defaults would hold it back: 10 requests in a batch, and 5 at a time in a replica. They are
raised to what suits the model. MODEL, PORT and THREADS are variables.
"""

import os
import signal

import ray
import torch
from ray import serve
from sentence_transformers import SentenceTransformer
from starlette.requests import Request

MOST = 64

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threads = int(os.environ["THREADS"])


@serve.deployment(max_ongoing_requests=2 * MOST, ray_actor_options={"num_cpus": threads})
class Embedder:
    def __init__(self, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = SentenceTransformer(path, device="cpu")

    @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=0.005)
    async def embed(self, requests: list[list[str]]) -> list[list[list[float]]]:
        texts = [text for request in requests for text in request]
        vectors = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        rest = iter(vectors.tolist())
        return [[next(rest) for _ in request] for request in requests]

    async def __call__(self, request: Request) -> list[list[float]]:
        return await self.embed((await request.json())["inputs"])


ray.init(num_cpus=threads, object_store_memory=200 << 20, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
serve.run(Embedder.bind(os.environ["MODEL"], threads), route_prefix="/embed")
signal.sigwait([signal.SIGTERM])
serve.shutdown()
ray.shutdown()
