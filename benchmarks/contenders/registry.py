"""The contenders by name, in the order of the report."""

import importlib

from benchmarks.contenders.contender import Contender

__all__ = [
    "BASELINES",
    "DEVICES",
    "JOBS",
    "REFERENCE",
    "RERANKERS",
    "SERVERS",
    "TEXTS",
    "all_names",
    "find",
    "names_on",
]

# The contender whose answers all others are checked against, on every device.
REFERENCE = "eager"
# What ratios are relative to on each device: eager PyTorch in the precision usual there.
BASELINES = {"cpu": "eager", "cuda": "cuda_eager"}
DEVICES = tuple(BASELINES)

# For each device, the contenders and the module of this package that defines each.
_MODULES = {
    "cpu": {
        "eager": "pytorch",
        "sdpa": "pytorch",
        "torch_bfloat16": "pytorch",
        "torch_compile": "pytorch",
        "ort_plain": "ort",
        "ort_torchscript": "ort",
        "ort_optimizer": "ort",
        "ort_quantize_dynamic": "ort",
        "transformers_exporters": "ort",
        "openvino_float32": "openvino",
        "openvino_bfloat16": "openvino",
        "openvino_int8": "openvino",
        "sentence_transformers": "sentence_transformers",
        "optimum": "optimum",
        "ctranslate2_float32": "ctranslate2",
        "ctranslate2_int8": "ctranslate2",
        "bertrt": "bertrt",
        "bertrt_int8": "bertrt",
    },
    "cuda": {
        "cuda_eager": "pytorch_cuda",
        "cuda_sdpa": "pytorch_cuda",
        "cuda_cudnn": "pytorch_cuda",
        "cuda_compile": "pytorch_cuda",
        "cuda_graphs": "pytorch_cuda",
        "cuda_unpadded": "pytorch_cuda",
        "cuda_sentence_transformers": "sentence_transformers",
        "cuda_ort": "ort",
        "bertrt_cuda_ort": "bertrt",
        "bertrt_cuda": "bertrt",
        "bertrt_cuda_bfloat16": "bertrt",
    },
}
# Those on the CPU that take texts alone, so the workloads of token ids leave them out.
_TEXTS = {
    "openvino_genai": "openvino_genai",
    "llama_cpp_float32": "llama_cpp",
    "llama_cpp_q8_0": "llama_cpp",
}
TEXTS = tuple(_TEXTS)
# Those that answer over HTTP, on the CPU. They take texts alone, so only one workload has them.
_SERVERS = {
    "bertrt_serve": "http_servers",
    "bertrt_serve_int8": "http_servers",
    "fastapi": "http_servers",
    "fastapi_batched": "http_servers",
    "infinity": "http_servers",
    "ray_serve_bertrt": "ray_servers",
    "ray_serve_bertrt_fast": "ray_servers",
    "ray_serve_bertrt_haproxy": "ray_servers",
    "ray_serve_sentence_transformers": "ray_servers",
}
SERVERS = tuple(_SERVERS)
# Those that embed a file, on the CPU; only one workload has them.
_JOBS = {
    "bertrt_loop": "corpus_jobs",
    "bertrt_batch": "corpus_jobs",
    "bertrt_batch_ray": "corpus_jobs",
    "bertrt_spark": "corpus_jobs",
    "ray_data_sentence_transformers": "corpus_jobs",
}
JOBS = tuple(_JOBS)
# Those that only rerank, on the CPU; only one workload has them.
_RERANKERS = {"fastembed_rerank": "fastembed_rerank"}
RERANKERS = tuple(_RERANKERS)


def names_on(device: str) -> tuple[str, ...]:
    """Return the contenders that take token ids on a device of `DEVICES`."""
    return tuple(_MODULES[device])


def all_names() -> tuple[str, ...]:
    """Return the names of all contenders, in the order of the report."""
    return (*_MODULES["cpu"], *TEXTS, *RERANKERS, *SERVERS, *JOBS, *_MODULES["cuda"])


def find(name: str) -> Contender:
    """Return the contender of this name.

    Raises ValueError for an unknown name.
    """
    known = {
        name: module
        for modules in (*_MODULES.values(), _TEXTS, _RERANKERS, _SERVERS, _JOBS)
        for name, module in modules.items()
    }
    if name not in known:
        raise ValueError(f"no contender is called {name!r}: choose from {', '.join(known)}")
    module = importlib.import_module(f"benchmarks.contenders.{known[name]}")
    found: Contender = module.CONTENDERS[name]
    return found
