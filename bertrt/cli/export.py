"""`bertrt export`: from a checkpoint to an artifact."""

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bertrt.errors import ExportError
from bertrt.progress import progress_bar

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "turn a BERT checkpoint into an artifact"
DESCRIPTION = """\
Turn a BERT checkpoint into an artifact: a directory with an ONNX graph that is proved to give the
checkpoint's own answers. When they differ by more than 1e-4, nothing is written."""
JSON_HELP = "print bertrt.json's contents, and the directory, as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--model",
        required=True,
        help="a hub id such as google-bert/bert-base-uncased, a local folder, or 'demo' for the "
        "embedded model",
    )
    parser.add_argument("--task", help="the head, as a Hugging Face task; else the checkpoint's")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="the directory to make; else one here, named after the model and the task",
    )
    parser.add_argument(
        "--device",
        choices=("any", "cpu", "cuda"),
        default="cpu",
        help="cpu: fastest on ONNX Runtime's CPU provider (the default); any: standard ONNX "
        "operators only; cuda: an NVIDIA GPU",
    )
    parser.add_argument(
        "--engine",
        choices=("triton", "ort"),
        help="for cuda: bertrt's own Triton kernels (the default), or ONNX Runtime's CUDA provider",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "int8", "float16", "bfloat16"),
        help="float32 (the default), or for cuda float16 (its default) or bfloat16; for cpu int8: "
        "linear layers in int8, the fastest mixture whose answers stay near float32's",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="for int8, texts like those that will be asked, one a line; else built-in ones",
    )
    parser.add_argument(
        "--min-cosine",
        metavar="C",
        type=float,
        help="for int8, the least cosine of an embedding to float32's (0.995)",
    )
    parser.add_argument(
        "--min-agreement",
        metavar="A",
        type=float,
        help="for int8, the least share of the other heads' decisions that stay the same (0.99)",
    )
    parser.add_argument("--revision", metavar="R", help="a branch, tag or commit of a hub id")
    parser.add_argument(
        "--offline", action="store_true", help="take a hub id from the local cache only"
    )
    parser.add_argument(
        "--allow-new-head",
        action="store_true",
        help="make a new, untrained head when the checkpoint lacks it",
    )
    parser.add_argument(
        "--with-tokenizer",
        action="store_true",
        help="write model_text.onnx too, a graph that takes text (needs onnxruntime-extensions)",
    )
    parser.add_argument(
        "--output-hidden-states",
        action="store_true",
        help="have the graph give each layer's hidden states too",
    )
    parser.add_argument(
        "--output-attentions",
        action="store_true",
        help="have the graph give each layer's attention weights too, which makes it slower",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an artifact that is at DIR"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and say what was made and how near it is to PyTorch."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with _stopped_by_sigterm(), progress_bar() as report:
        report(0, 1, "load PyTorch")
        try:
            from bertrt.export import export
            from bertrt.export.atomic_dir import default_output
        except ImportError as error:
            raise ExportError(
                f"bertrt export needs PyTorch and more, and not all of it can be imported "
                f"({error}): install it with pip install 'bertrt[export]'"
            ) from error
        from bertrt.cli.manifest import as_json, summary

        manifest = export(
            arguments.model,
            arguments.output,
            task=arguments.task,
            device=arguments.device,
            engine=arguments.engine,
            dtype=arguments.dtype,
            calibration=arguments.calibration,
            min_cosine=arguments.min_cosine,
            min_agreement=arguments.min_agreement,
            revision=arguments.revision,
            offline=arguments.offline,
            allow_new_head=arguments.allow_new_head,
            with_tokenizer=arguments.with_tokenizer,
            output_hidden_states=arguments.output_hidden_states,
            output_attentions=arguments.output_attentions,
            overwrite=arguments.overwrite,
            progress=lambda number, count, name: report(
                number - 1, count, f"{number}/{count} {name}"
            ),
        )
    output = arguments.output or default_output(manifest.source["model"], manifest.task)
    if arguments.json:
        print(json.dumps(as_json(output, manifest), indent=2, ensure_ascii=False))
    else:
        print(*summary(output, manifest), sep="\n")
    return 0


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Make SIGTERM an exception, so that a half-written directory is removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
