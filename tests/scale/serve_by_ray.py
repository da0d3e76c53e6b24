"""`bertrt serve` by Ray Serve: the same arguments, and the same line when it is ready.

The tests of tests/clients start it in place of the command.
"""

import argparse
import dataclasses
import json
import signal
import socket
import sys

import ray
from ray import serve

import bertrt.ray
from bertrt.cli.serve import configure
from bertrt.serving.options import Options


def main() -> None:
    """Serve until SIGTERM comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    configure(parser)
    arguments = parser.parse_args(sys.argv[2:])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(
        num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False
    )
    try:
        http = {"host": "127.0.0.1", "port": port}
        serve.start(proxy_location="HeadOnly", http_options=http)
        options = {one.name: getattr(arguments, one.name) for one in dataclasses.fields(Options)}
        serve.run(bertrt.ray.app(dict(arguments.models), **options))
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        signal.sigwait([signal.SIGTERM])
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
