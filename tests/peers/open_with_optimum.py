"""Open artifacts with Optimum's ORTModelFor… classes and compare with transformers' answers.

`make optimum` runs it in its own environment, since optimum-onnx needs transformers below 4.58:
`python open_with_optimum.py DIRECTORY`, where `make_artifacts.py` has written
DIRECTORY/<class name>/{checkpoint,cpu,any}.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from optimum import onnxruntime as optimum

CLASSES = {
    "BertModel": optimum.ORTModelForFeatureExtraction,
    "BertForMaskedLM": optimum.ORTModelForMaskedLM,
    "BertForSequenceClassification": optimum.ORTModelForSequenceClassification,
    "BertForTokenClassification": optimum.ORTModelForTokenClassification,
    "BertForQuestionAnswering": optimum.ORTModelForQuestionAnswering,
    "BertForMultipleChoice": optimum.ORTModelForMultipleChoice,
    "BertForPreTraining": optimum.ORTModelForCustomTasks,
    "BertForNextSentencePrediction": optimum.ORTModelForCustomTasks,
    "BertLMHeadModel": optimum.ORTModelForCausalLM,
}


def compare(class_name: str, folder: Path, device: str) -> float:
    """Return the largest difference between Optimum's outputs and eager PyTorch's."""
    model = getattr(transformers, class_name).from_pretrained(
        folder / "checkpoint", attn_implementation="eager"
    )
    extra = {"use_io_binding": False} if class_name == "BertLMHeadModel" else {}
    session = CLASSES[class_name].from_pretrained(folder / device, **extra)
    random = np.random.default_rng(3)
    leading = (2, 3) if class_name == "BertForMultipleChoice" else (2,)
    inputs = {
        "input_ids": torch.tensor(random.integers(5, 200, (*leading, 9))),
        "attention_mask": torch.ones((*leading, 9), dtype=torch.int64),
    }
    if class_name != "BertLMHeadModel":
        inputs["token_type_ids"] = torch.zeros((*leading, 9), dtype=torch.int64)
        inputs["attention_mask"][1, ..., 6:] = 0
    with torch.no_grad():
        expected = model.eval()(**inputs)
    got = session(**inputs)
    worst = 0.0
    # Optimum's classes return only the outputs that they know, and so no pooler_output.
    names = [name for name in expected if name in got and name != "past_key_values"]
    assert names, f"{class_name}: nothing to compare among {list(got)}"
    for name in names:
        difference = (got[name] - expected[name]).abs()
        if difference.ndim > 2 or class_name == "BertForQuestionAnswering":
            difference = difference[inputs["attention_mask"].bool()]
        worst = max(worst, float(difference.max()))
    return worst


def main() -> None:
    """Compare every head and device; exit 1 if one differs by more than 1e-4."""
    root = Path(sys.argv[1])
    failed = False
    for class_name in CLASSES:
        for device in ("cpu", "any"):
            worst = compare(class_name, root / class_name, device)
            failed |= not worst <= 1e-4
            print(f"{class_name:30} {device:4} {worst:.2e}{' FAILED' if worst > 1e-4 else ''}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
