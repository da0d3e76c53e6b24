"""Compare what with_transformers_js.mjs wrote."""

import json

from compare import ROOT, check

# transformers.js cuts a text without putting [SEP] at its end: these have other vectors there.
TOO_LONG = {"embedder": [1], "mean": []}


def main() -> None:
    """Compare everything."""
    answers = json.loads((ROOT / "transformers_js.json").read_text(encoding="utf-8"))
    for key, vectors in answers.items():
        name, dtype = key.split()
        check("transformers.js", name, vectors, int8=dtype == "q8", left_out=TOO_LONG[name])


if __name__ == "__main__":
    main()
