"""Does the exporter run with this machine's PyTorch? It exports BERT-base for the Triton engine."""

import time

from benchmarks.data.vocabulary import write_tokenizer
from benchmarks.gpu.visit.inputs import make_module
from benchmarks.gpu.visit.visit import Visit

__all__ = ["run"]


def run(visit: Visit) -> None:
    """Write how long it took, and what its parity check found."""
    from bertrt.export import export

    checkpoint = visit.work / "checkpoint"
    make_module(visit).save_pretrained(checkpoint)
    write_tokenizer(checkpoint)
    began = time.perf_counter()
    manifest = export(
        checkpoint,
        visit.work / "artifact",
        task="feature-extraction",
        device="cuda",
        engine="triton",
        dtype="float16",
    )
    seconds = time.perf_counter() - began
    visit.add("export", seconds=seconds, parity=dict(manifest.parity))
