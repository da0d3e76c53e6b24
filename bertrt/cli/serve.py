"""`bertrt serve`: answer HTTP requests with artifacts, by the protocols of existing clients."""

import argparse
import json
import logging
import math
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bertrt.cli.arguments import add_session_options, whole
from bertrt.cli.formatting import escape_control
from bertrt.cli.serve_certificate import read_certificate
from bertrt.errors import ArtifactError, BertrtError, DeviceError, InputError
from bertrt.serving.keys import ENVIRONMENT, read_keys
from bertrt.serving.options import Options

if TYPE_CHECKING:
    from bertrt.serving.telemetry import Telemetry

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "answer HTTP requests with artifacts"
DESCRIPTION = """\
Answer HTTP requests with one artifact or several, by the protocols of Text Embeddings Inference,
OpenAI, Cohere, Hugging Face and Open Inference.

Each DIR may be given as NAME=DIR; the name is that of the directory otherwise. Clients choose a
model by its name in the request, or by /models/NAME before the path.

The server listens at once, and answers 503 until every artifact is loaded; then it prints one line.
SIGTERM and SIGINT let it finish what it has accepted, and it exits with 0, or with 1 if requests
were cut; a second signal ends it at once. An artifact that cannot be served is exit status 2."""
JSON_HELP = "print the line about where it listens as one JSON document"

# What a browser sends as Origin.
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]+")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "models",
        metavar="DIR",
        nargs="+",
        type=_named,
        help="an artifact that 'bertrt export' made, or NAME=DIR",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--port",
        metavar="N",
        type=_port,
        default=8080,
        help="the port to listen on; 0 is any free one (default: 8080)",
    )
    where.add_argument(
        "--uds",
        metavar="PATH",
        type=Path,
        help="listen on a Unix socket in place of an address and a port; its owner and its group "
        "may connect",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="a file of keys, one a line, of which each request needs one (default: those in "
        f"the environment variable {ENVIRONMENT}, if any)",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="N",
        type=_port,
        help="a port for /metrics and probes alone, at the same address; /metrics is nowhere else "
        "then (default: /metrics is on the server's port)",
    )
    parser.add_argument(
        "--metrics-auth", action="store_true", help="ask for an API key for /metrics as well"
    )
    parser.add_argument(
        "--tei-metrics",
        action="store_true",
        help="show the metrics by the names of Text Embeddings Inference as well",
    )
    parser.add_argument(
        "--otel",
        action="store_true",
        help="send traces and metrics by OpenTelemetry; its own environment variables OTEL_* say "
        "where to and how",
    )
    parser.add_argument(
        "--cors-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        type=_origin,
        help="an origin, such as https://example.com, whose pages may call the server from a "
        "browser; may be given several times, and * is any (default: none)",
    )
    parser.add_argument("--tls-cert", metavar="FILE", type=Path, help="a certificate, for HTTPS")
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="the certificate's key")
    _add_limits(parser)
    add_session_options(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit requests and connections."""
    numbers = [
        (
            "--max-waiting-texts",
            Options.max_waiting_texts,
            "how many texts may wait for each model",
        ),
        (
            "--max-waiting-tokens",
            Options.max_waiting_tokens,
            "how many tokens may wait for each model",
        ),
        ("--max-inputs", Options.max_inputs, "the maximum number of inputs in a request"),
        (
            "--max-sequences",
            Options.max_sequences,
            "the maximum number of texts x labels, windows or choices",
        ),
        ("--max-response", Options.max_response, "about the maximum number of bytes of an answer"),
        ("--max-body", Options.max_body, "the maximum number of bytes in a request's body"),
        ("--max-connections", 1024, "the maximum number of connections"),
    ]
    for flag, default, meaning in numbers:
        parser.add_argument(
            flag, metavar="N", type=whole, default=default, help=f"{meaning} (default: {default})"
        )
    parser.add_argument(
        "--auto-truncate",
        action=argparse.BooleanOptionalAction,
        default=Options.auto_truncate,
        help="whether texts that are too long are cut where the request does not say; with "
        "--no-auto-truncate they are refused (default: cut)",
    )
    times = [
        (
            "--request-timeout",
            _some_seconds,
            Options.request_timeout,
            "how long a request may wait",
        ),
        (
            "--drain-delay",
            _seconds,
            0.0,
            "how long to go on after SIGTERM, so that balancers notice",
        ),
        ("--drain-timeout", _seconds, 30.0, "how long accepted requests may take after that"),
    ]
    for flag, kind, seconds, meaning in times:
        parser.add_argument(
            flag,
            metavar="T",
            type=kind,
            default=seconds,
            help=f"{meaning}, in seconds (default: {seconds:g})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    try:
        from bertrt.cli.build_server import build_server
        from bertrt.serving.server import run as run_server
    except ImportError as error:
        raise BertrtError(
            f"bertrt serve needs packages that cannot be imported ({error}): install them with "
            "pip install 'bertrt[serve]'"
        ) from error

    names = [name for name, _ in arguments.models]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return _refuse(f"the name {twice!r} is given twice: give another one as NAME=DIR")
    try:
        keys = read_keys(arguments.api_key_file)
        tls = read_certificate(arguments.tls_cert, arguments.tls_key)
        if arguments.metrics_auth and not keys:
            raise InputError("--metrics-auth needs keys: give --api-key-file")
        telemetry = _telemetry("https" if tls else "http") if arguments.otel else None
    except InputError as error:
        return _refuse(str(error))

    logging.basicConfig(format="bertrt: %(levelname)s: %(message)s", level=logging.WARNING)
    server = build_server(
        arguments,
        keys,
        tls,
        on_ready=partial(_announce, names, arguments.json),
        on_finished=None if telemetry is None else telemetry.describe,
    )
    try:
        return run_server(server)
    except (ArtifactError, DeviceError, InputError) as error:
        return _refuse(str(error))
    finally:
        if telemetry is not None:
            telemetry.close()


def _telemetry(scheme: str) -> "Telemetry":
    """Return what describes requests to OpenTelemetry. Raises InputError for wrong variables."""
    try:
        from bertrt.serving.telemetry import Telemetry
    except ImportError as error:
        raise BertrtError(
            f"--otel needs packages that cannot be imported ({error}): install them with "
            "pip install 'bertrt[otel]'"
        ) from error
    return Telemetry.from_environment(scheme)


def _refuse(message: str) -> int:
    """Print why the arguments cannot be used, and return the exit status of that."""
    print("bertrt: error:", escape_control(message), file=sys.stderr)
    return 2


def _announce(names: Sequence[str], as_json: bool, urls: dict[str, str]) -> None:
    """Print where the server listens, and what it serves."""
    if as_json:
        print(json.dumps({**urls, "models": list(names)}, ensure_ascii=False), flush=True)
        return
    models = ", ".join(map(escape_control, names))
    line = f"ready on {escape_control(urls['url'])} with {models}"
    if "metrics_url" in urls:
        line += f", metrics on {urls['metrics_url']}"
    print(line, flush=True)


def _named(text: str) -> tuple[str, Path]:
    """Parse NAME=DIR, or DIR alone; what comes before "=" and holds a "/" is part of a path."""
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or os.sep in name:
        path = Path(text)
        name = path.name or path.resolve().name
    else:
        path = Path(rest)
    if not rest and equals:
        raise argparse.ArgumentTypeError(f"{text!r} has no directory: give NAME=DIR")
    if not name or not name.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} has no usable name: give NAME=DIR")
    return name, path


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number below 65536")


def _origin(text: str) -> str:
    if text == "*" or _ORIGIN.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is not an origin: give a scheme, a host and perhaps a port, and nothing else"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _some_seconds(text: str) -> float:
    """Parse a time within which something has to happen; with none every request would fail."""
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} leaves no time to answer: give more than 0")
    return seconds
