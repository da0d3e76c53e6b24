"""FastAPI and sentence-transformers, as most people write it: a call for each request.

FastAPI runs the function in its pool of 40 threads.
"""

import os

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

torch.set_num_threads(int(os.environ["THREADS"]))
model = SentenceTransformer(os.environ["MODEL"], device="cpu")
app = FastAPI()


class Texts(BaseModel):
    inputs: list[str]


@app.post("/embed")
def embed(texts: Texts) -> list[list[float]]:
    vectors = model.encode(texts.inputs, normalize_embeddings=True, show_progress_bar=False)
    return vectors.tolist()
