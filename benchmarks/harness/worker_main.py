"""Start a worker: `python -P worker_main.py CONTENDER DESCRIPTOR`.

Loads the package `benchmarks` from its folder and leaves sys.path alone. With the checkout's root
on sys.path, a library that probes for a package called `kernels` or `export` would find the
checkout's folders of these names.
"""

import importlib.util
import sys
from pathlib import Path


def load_package() -> None:
    """Import `benchmarks` from the folder that contains this file."""
    folder = Path(__file__).absolute().parents[1]
    spec = importlib.util.spec_from_file_location("benchmarks", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()

    from benchmarks.harness.worker import main

    main(name=sys.argv[1], descriptor=int(sys.argv[2]))
