"""bertrt by Ray Serve, on a cluster of this machine: ARTIFACT, PORT and THREADS are variables."""

import os
import signal

import ray
from ray import serve

import bertrt.ray

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threads = int(os.environ["THREADS"])
ray.init(num_cpus=threads, object_store_memory=200 << 20, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
serve.run(bertrt.ray.app({"model": os.environ["ARTIFACT"]}, num_cpus=threads))
signal.sigwait([signal.SIGTERM])
serve.shutdown()
ray.shutdown()
