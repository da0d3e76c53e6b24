"""Texts of fixed lengths: text in, vectors out, one batch repeated.

The shapes are those of `fixed`, with the tokenizer in the measured time, so that libraries that
take texts alone can be measured too.
"""

from collections.abc import Iterator, Sequence

from benchmarks.data.exact_texts import exact_texts
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import Errors, dismiss_wrong, reference_answers_to_texts
from benchmarks.harness.rows import Row, distinct
from benchmarks.harness.turns import measure_turns
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool

__all__ = ["CONTENDERS", "MODELS", "NAME", "SHAPES", "TASKS", "measure"]

NAME = "texts"
TASKS = ("embeddings",)
MODELS = ("minilm", "bert-base")
CONTENDERS = (
    "eager",
    "ort_plain",
    "openvino_float32",
    "sentence_transformers",
    "ctranslate2_float32",
    "ctranslate2_int8",
    "openvino_genai",
    "llama_cpp_float32",
    "llama_cpp_q8_0",
    "bertrt",
    "bertrt_int8",
)

# Texts and tokens of each, [CLS] and [SEP] included.
SHAPES = ((1, 8), (1, 32), (1, 128), (8, 128), (32, 128))
_QUICK_SHAPES = ((1, 8), (1, 128))


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure these contenders at every shape; yield a row for each, timed or refused."""
    return distinct(_measure(config, model, task, names))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        with worker_pool(config, model, task, group) as pool:
            yield from _measure_group(config, model, task, group, pool)


def _measure_group(
    config: BenchConfig, model: Model, task: str, group: Sequence[str], pool: WorkerPool
) -> Iterator[Row]:
    errors: Errors = {}
    for count, tokens in _QUICK_SHAPES if config.quick else SHAPES:
        shape = f"{count}x{tokens}"
        config.report(f"  {model.name} {task} texts {shape}")
        texts = exact_texts(model.checkpoint(task), count, tokens)
        expected = reference_answers_to_texts(config, model, task, texts)
        errors |= dismiss_wrong(pool, expected, f"to texts of {shape}", "answer", texts=texts)
        yield from measure_turns(
            config,
            pool,
            errors,
            workload=NAME,
            model=model,
            task=task,
            group=group,
            shape=shape,
            verb="time_answer",
            texts=texts,
        )
