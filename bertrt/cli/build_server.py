"""The server that the arguments of `bertrt serve` ask for. It needs the packages of the extra."""

import argparse
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

from bertrt.serving.app import App, Routes
from bertrt.serving.context import Context, Finished
from bertrt.serving.cors import Cors
from bertrt.serving.endpoint import Endpoint, allow_descriptors
from bertrt.serving.listener import Listener
from bertrt.serving.loading import open_model
from bertrt.serving.message import Application
from bertrt.serving.operation import metrics_routes, public_routes
from bertrt.serving.options import Options
from bertrt.serving.protocol import ConnectionLimits
from bertrt.serving.server import Server

__all__ = ["build_server"]


def build_server(
    arguments: argparse.Namespace,
    keys: Sequence[str],
    tls: ssl.SSLContext | None,
    *,
    on_ready: Callable[[dict[str, str]], None],
    on_finished: Callable[[Finished], None] | None,
) -> Server:
    """Listen, and return the server that will answer there.

    Args:
        arguments: those of the command.
        keys: the API keys.
        tls: for HTTPS.
        on_ready: called when it is ready, with the URL of the server as "url", and that of the
            metrics' port as "metrics_url" if there is one.
        on_finished: called after each request.

    Raises BertrtError if it cannot listen.
    """
    endpoint, metrics_endpoint = _listen(arguments)
    if not keys and not endpoint.is_private:
        print(
            f"bertrt: warning: anyone who can reach {endpoint.address} can use this server: give "
            "--api-key-file, or --host 127.0.0.1",
            file=sys.stderr,
        )
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    context = Context.loading([name for name, _ in arguments.models], options)

    def listener(endpoint: Endpoint, routes: Routes) -> Listener:
        app: Application = App(context, keys, routes, on_finished)
        if arguments.cors_origin:
            app = Cors(app, arguments.cors_origin)
        limits = ConnectionLimits(connections=arguments.max_connections)
        return Listener(app, endpoint, limits, context.metrics.refuse)

    scheme, needs_key = "https" if tls else "http", arguments.metrics_auth
    urls = {"url": endpoint.url(scheme)}
    metrics = None
    if metrics_endpoint is not None:
        urls["metrics_url"] = metrics_endpoint.url(scheme)
        metrics = listener(metrics_endpoint, metrics_routes(needs_key=needs_key))
    routes = public_routes(metrics=metrics is None, needs_key=needs_key)
    return Server(
        context,
        listener(endpoint, routes),
        [partial(open_model, name, directory, options) for name, directory in arguments.models],
        metrics=metrics,
        drain_delay=arguments.drain_delay,
        drain_timeout=arguments.drain_timeout,
        tls=tls,
        on_ready=partial(on_ready, urls),
    )


def _listen(arguments: argparse.Namespace) -> tuple[Endpoint, Endpoint | None]:
    """Return where the server listens, and where it shows its metrics if that is elsewhere."""
    backlog = arguments.max_connections
    allow_descriptors(2 * backlog + 256)
    metrics = None
    # First, since it leaves no file if the other one fails.
    if arguments.metrics_port is not None:
        metrics = Endpoint.tcp(arguments.host, arguments.metrics_port, backlog)
    if arguments.uds is not None:
        return Endpoint.unix(arguments.uds, backlog), metrics
    return Endpoint.tcp(arguments.host, arguments.port, backlog), metrics
