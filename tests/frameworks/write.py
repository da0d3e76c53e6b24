"""Write checkpoints with TensorFlow and Flax, and those frameworks' answers: `python write.py DIR`.

Runs in its own environment (see frameworks.sh). Each case is a folder DIR/<case> with the
checkpoint, answers.npz (inputs and outputs) and case.json (the task, and the format it is read as).
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # transformers' classes need Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"


def main() -> None:
    """Write all cases."""
    import write_encoders
    import write_flax
    import write_garden
    import write_keras
    import write_saver

    root = Path(sys.argv[1])
    for writer in (write_keras, write_flax, write_encoders, write_saver, write_garden):
        writer.main(root)


if __name__ == "__main__":
    main()
