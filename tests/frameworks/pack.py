"""Pack the cases that the tests keep, of those that write.py wrote: `python pack.py DIR GOLDEN`.

Each becomes GOLDEN/<case>.tar.xz of about ten kilobytes, since HDF5 files are mostly zeros.
"""

import sys
import tarfile
from pathlib import Path

KEPT = [
    "albert-h5-fill-mask",
    "distilbert-flax-safetensors-question-answering",
    "distilbert-h5-fill-mask",
    "electra-msgpack-text-classification",
    "flax-safetensors-multiple-choice",
    "h5-pretraining",
    "h5-question-answering",
    "h5-shards-question-answering",
    "mpnet-tf-safetensors-question-answering",
    "msgpack-bfloat16-multiple-choice",
    "msgpack-pretraining",
    "msgpack-shards-multiple-choice",
    "roberta-h5-text-classification",
    "roberta-msgpack-fill-mask",
    "tf-safetensors-question-answering",
    "tf1-classifier",
    "tf1-parts",
    "tf1-pretraining",
    "tf1-squad",
    "tf2-encoder",
    "tf2-pretraining",
]


def main() -> None:
    """Pack the cases of KEPT, without the owner, mode and time of their files."""
    cases, golden = Path(sys.argv[1]), Path(sys.argv[2])
    golden.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        with tarfile.open(golden / f"{name}.tar.xz", "w:xz") as archive:
            for path in sorted((cases / name).iterdir()):
                info = archive.gettarinfo(path, f"{name}/{path.name}")
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                info.mode = 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)


if __name__ == "__main__":
    main()
