"""Measure a workload again where contenders may use all CPUs, whatever their number of threads.

A server with one thread for its model then has another CPU for its event loop, which it shares with
the client. That is how a server of several cores stands; on one core, all of it takes turns.
"""

import os
from collections.abc import Iterator

from benchmarks.harness.rows import Row

__all__ = ["measure_on_all_cpus"]


def measure_on_all_cpus(rows: Iterator[Row], name: str) -> Iterator[Row]:
    """Yield a workload's rows under another name, with the number of CPUs in its settings.

    The workload is a generator: it begins here, and the workers that it starts inherit all CPUs.
    This process is pinned again afterwards.
    """
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    cpus = {"cpus": len(os.sched_getaffinity(0))}
    try:
        for row in rows:
            yield {**row, "workload": name, "settings": {**row.get("settings", {}), **cpus}}
    finally:
        os.sched_setaffinity(0, pinned)
