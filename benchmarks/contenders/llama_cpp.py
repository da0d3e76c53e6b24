"""llama.cpp through xllamacpp, on a GGUF file that llama.cpp's own converter makes."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "LlamaCppModel"]

# A text has to fit into one micro-batch; 2048 tokens in one, of 16 texts at most, lets several be
# computed together. The context is shared by all of them.
_BATCH = 2048
_PARALLEL = 16
_CONTEXT = 512


class LlamaCppModel:
    """llama.cpp's server inside this process, without HTTP; a `LoadedModel`."""

    def __init__(self, path: Path, threads: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.embd_normalize = 2  # by the L2 norm
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.n_parallel = _PARALLEL
        params.n_ctx = _CONTEXT * _PARALLEL
        params.n_batch = params.n_ubatch = _BATCH
        self._server = xllamacpp.Server(params)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; the server schedules the texts of a request itself."""
        found = self._server.handle_embeddings({"input": texts, "model": "model"})
        if "data" not in found:
            raise RuntimeError(f"llama.cpp refused: {found}")
        rows = sorted(found["data"], key=lambda item: item["index"])
        return np.array([row["embedding"] for row in rows], dtype=np.float32)


def _contender(title: str, *, precision: str, outtype: str) -> Contender:
    def prepare(model: Model, task: str, folder: Path) -> None:
        command = [sys.executable, "-P", "-m", "convert_hf_to_gguf", str(model.checkpoint(task))]
        command += ["--outfile", str(folder / "model.gguf"), "--outtype", outtype]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise RuntimeError(f"convert_hf_to_gguf failed: {last}")

    def load(model: Model, task: str, folder: Path, threads: int) -> LlamaCppModel:
        return LlamaCppModel(folder / "model.gguf", threads)

    return Contender(
        title,
        precision,
        ("xllamacpp", "convert-hf-to-gguf", "gguf"),
        lambda: packages_missing("xllamacpp", "convert_hf_to_gguf", "gguf", "torch"),
        load,
        prepare,
        tasks=("embeddings",),
    )


CONTENDERS = {
    # Its GELU is the tanh form, read from a table of float16 (ggml_table_gelu_f16) whatever the
    # weights are, so its answers cannot have float32's error.
    "llama_cpp_float32": _contender("llama.cpp F32", precision="float16", outtype="f32"),
    "llama_cpp_q8_0": _contender("llama.cpp Q8_0", precision="int8", outtype="q8_0"),
}
