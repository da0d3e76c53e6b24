"""Open the models that a server is to have."""

import time
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.runtime import Runtime
from bertrt.serving.models import Model
from bertrt.serving.options import Options

__all__ = ["open_model"]

_DEFAULTS = Options()


def open_model(name: str, directory: Path, options: Options = _DEFAULTS) -> Model:
    """Open an artifact under a name, check all of it, and run it once at its smallest and largest.

    Raises ArtifactError if the directory is not a valid artifact, and DeviceError if it cannot run.
    """
    # The hashes of large files are checked by the warm-up.
    artifact = Artifact.open(directory, large_files_later=True)
    runtime = Runtime(
        artifact,
        threads=options.threads,
        allow_spinning=options.allow_spinning,
        max_batch_tokens=options.max_batch_tokens,
    )
    batcher = runtime.batcher(
        max_waiting=options.max_waiting_texts, max_waiting_tokens=options.max_waiting_tokens
    )
    longest = runtime.info["max_length"]
    texts = max(1, runtime.info["max_batch_tokens"] // longest)
    batcher.warmup([(1, min(8, longest)), (texts, longest)])
    return Model(name, artifact, runtime, batcher, created=int(time.time()))
