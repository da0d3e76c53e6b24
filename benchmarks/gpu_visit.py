"""Measure what decides most on a GPU that is at hand for minutes.

Run `python3 -P benchmarks/gpu_visit.py --out DIR`. It works in a plain checkout, with nothing
installed but PyTorch, Triton, transformers and ONNX. This file makes `benchmarks` and `bertrt`
importable; `benchmarks.gpu.visit` does the rest.
"""

import os
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def link_packages(folder: Path) -> None:
    """Let this process and those that it starts import both packages, through links in `folder`.

    The checkout's root stays off the path: a library that probes for a package called `kernels` or
    `export` would find the checkout's folders of these names.
    """
    for name in ("benchmarks", "bertrt"):
        (folder / name).symlink_to(_ROOT / name)
    if not sys.flags.safe_path:
        del sys.path[0]  # this file's folder, or the root
    sys.path.insert(0, str(folder))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), inherited]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as links:
        link_packages(Path(links))

        from benchmarks.gpu.visit.main import main

        sys.exit(main())
