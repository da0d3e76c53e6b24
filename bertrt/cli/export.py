"""`bertrt export`: turn a checkpoint into an artifact."""

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bertrt.cli.stopped_by_sigterm import stopped_by_sigterm
from bertrt.errors import ExportError
from bertrt.progress import progress_steps

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "turn a BERT checkpoint into an artifact"
DESCRIPTION = """\
Turn a BERT checkpoint into an artifact: a directory with an ONNX graph, a tokenizer and a manifest.
The graph's outputs are compared with PyTorch's in float32; if they differ by more than 1e-4 (large
ones: by more than rounding explains), nothing is written."""
JSON_HELP = "print the directory and the contents of bertrt.json as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        help="the checkpoint: a Hugging Face Hub id such as google-bert/bert-base-uncased, a local "
        "folder, or 'demo' for the model that comes with bertrt",
    )
    parser.add_argument(
        "--task", help="the task, by its Hugging Face name (default: the checkpoint's own)"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="the directory to create (default: one named after the model and the task, in the "
        "current directory)",
    )
    parser.add_argument(
        "--device",
        choices=("any", "cpu", "cuda"),
        help="the device to make the graph for: cpu, fastest on ONNX Runtime's CPU provider; any, "
        "standard ONNX operators only; cuda, an NVIDIA GPU (default: cpu, and any for the layout "
        "hub)",
    )
    parser.add_argument(
        "--engine",
        choices=("triton", "ort"),
        help="for cuda, the engine: triton, bertrt's own kernels; ort, ONNX Runtime's CUDA "
        "provider (default: triton)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "int8", "float16", "bfloat16"),
        help="the data type: float32; for cuda also float16 or bfloat16; for cpu and any also "
        "int8, which quantizes the linear layers as far as answers stay close to float32's "
        "(default: float32, for cuda float16)",
    )
    parser.add_argument(
        "--layout",
        choices=("artifact", "hub"),
        default="artifact",
        help="which files to write: artifact, those that bertrt needs; hub, also those that "
        "Optimum, FastEmbed, transformers.js and Text Embeddings Inference look for (default: "
        "artifact)",
    )
    parser.add_argument(
        "--opset",
        metavar="N",
        type=int,
        help="for the device any, the version of the standard ONNX operators, 17 to 23 (default: "
        "23, and 17 for the layout hub)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="for int8, a file of texts like those to be answered, one a line; for a reranker, of "
        "pairs, each a query, a tab and a passage, or JSON (default: built-in ones)",
    )
    parser.add_argument(
        "--min-cosine",
        metavar="C",
        type=float,
        help="for int8, the minimum cosine similarity of embeddings to those of float32 "
        "(default: 0.995)",
    )
    parser.add_argument(
        "--min-agreement",
        metavar="A",
        type=float,
        help="for int8, the minimum share of decisions that are the same as in float32, for tasks "
        "other than embeddings; of a reranker also of the orders of two passages (default: 0.99)",
    )
    parser.add_argument(
        "--revision", metavar="R", help="for a Hub id, the branch, tag or commit to export"
    )
    parser.add_argument(
        "--offline", action="store_true", help="for a Hub id, use only the local cache"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="MODEL",
        help="a Hub id or a folder to take the tokenizer from, for a checkpoint without one, such "
        "as a Trainer's (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--allow-new-head",
        action="store_true",
        help="create a new, untrained head if the checkpoint lacks it",
    )
    parser.add_argument(
        "--with-tokenizer",
        action="store_true",
        help="also write model_text.onnx, a graph that takes text (needs onnxruntime-extensions)",
    )
    parser.add_argument(
        "--output-hidden-states",
        action="store_true",
        help="add the hidden states of each layer to the graph's outputs",
    )
    parser.add_argument(
        "--output-attentions",
        action="store_true",
        help="add the attention weights of each layer to the graph's outputs, which makes it "
        "slower",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an artifact that exists at DIR"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and print what was made and how close its outputs are to PyTorch's."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with stopped_by_sigterm(), _rare_garbage_collection(), progress_steps() as report:
        report(0, 1, "load PyTorch")
        try:
            from bertrt.export import export
            from bertrt.export.atomic_dir import default_output
        except ImportError as error:
            raise ExportError(
                f"bertrt export needs packages that cannot be imported ({error}): install them "
                "with pip install 'bertrt[export]'"
            ) from error
        from bertrt.cli.format_manifest import format_summary, manifest_json

        manifest = export(
            arguments.model,
            arguments.output,
            task=arguments.task,
            device=arguments.device,
            engine=arguments.engine,
            dtype=arguments.dtype,
            layout=arguments.layout,
            opset=arguments.opset,
            calibration=arguments.calibration,
            min_cosine=arguments.min_cosine,
            min_agreement=arguments.min_agreement,
            revision=arguments.revision,
            offline=arguments.offline,
            tokenizer=arguments.tokenizer,
            allow_new_head=arguments.allow_new_head,
            with_tokenizer=arguments.with_tokenizer,
            output_hidden_states=arguments.output_hidden_states,
            output_attentions=arguments.output_attentions,
            overwrite=arguments.overwrite,
            progress=report,
        )
    output = arguments.output or default_output(manifest.source["model"], manifest.task)
    if arguments.json:
        print(json.dumps(manifest_json(output, manifest), indent=2, ensure_ascii=False))
    else:
        print(*format_summary(output, manifest), sep="\n")
    return 0


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Collect cycles rarely: imports and tracing make many objects that stay, a tenth of the time.

    Arrays and tensors are freed without it.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
