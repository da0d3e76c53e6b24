"""Folders of a small ColBERT model in the three forms that such models are saved in."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

__all__ = ["SIZE", "save_own", "save_pylate", "save_stanford", "with_markers"]

# The vectors' size.
SIZE = 7
# Signs of the vocabulary that give their ids to the markers.
_REPLACED = {"£": "[unused0]", "€": "[unused1]"}


def with_markers(base: Path, folder: Path) -> None:
    """Write a checkpoint of a BertModel whose vocabulary has ColBERT's markers."""
    shutil.copytree(base, folder)
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokens = [_REPLACED.get(token, token) for token in tokens]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    transformers.BertTokenizerFast(
        str(folder / "vocab.txt"), do_lower_case=True, model_max_length=64
    ).save_pretrained(folder)


def _weight(out: int, size: int, seed: int) -> torch.Tensor:
    """Return a weight with which vectors of different tokens differ."""
    return torch.randn(out, size, generator=torch.Generator().manual_seed(seed)) * 0.5


def save_stanford(
    base: Path, folder: Path, metadata: dict[str, Any] | None, *, size: int = SIZE
) -> Path:
    """Write Stanford's form: linear.weight beside `bert.`, and artifact.metadata unless None."""
    with_markers(base, folder)
    config = json.loads((folder / "config.json").read_text())
    hidden = config["hidden_size"]
    weights = {f"bert.{name}": t for name, t in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = _weight(size, hidden, 3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config["architectures"] = ["HF_ColBERT"]
    (folder / "config.json").write_text(json.dumps(config))
    if metadata is not None:
        (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def save_pylate(
    base: Path,
    folder: Path,
    settings: dict[str, Any],
    *,
    dense: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    added: bool = False,
) -> Path:
    """Write PyLate's form: a Transformer and its own Dense, with settings beside the prompts.

    With `added`, "[Q] " and "[D] " are tokens that were added to the vocabulary.
    """
    with_markers(base, folder)
    hidden = json.loads((folder / "config.json").read_text())["hidden_size"]
    if added:
        _add_markers(folder)
    kinds = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    modules = [
        {"idx": i, "name": str(i), "path": "" if i == 0 else "1_Dense", "type": kind}
        for i, kind in enumerate(kinds)
    ]
    config = {
        "in_features": hidden,
        "out_features": SIZE,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
        **(dense or {}),
    }
    weights = {"linear.weight": _weight(config["out_features"], hidden, 5)}
    if config["bias"]:
        weights["linear.bias"] = _weight(1, config["out_features"], 6)[0].contiguous()
    if config.get("use_residual") and config["out_features"] != hidden:
        weights["residual.weight"] = _weight(config["out_features"], hidden, 7)
    (folder / "1_Dense").mkdir()
    (folder / "1_Dense" / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "1_Dense" / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps(transformer or {}))
    return folder


def _add_markers(folder: Path) -> None:
    """Add "[Q] " and "[D] " to a checkpoint, as PyLate does when it trains one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[Q] ", "[D] "])
    tokenizer.save_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder)
    torch.manual_seed(2)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[-2:].normal_(std=0.2)
    model.save_pretrained(folder)


def save_own(
    base: Path,
    folder: Path,
    *,
    transformer: dict[str, Any] | None = None,
    dense: dict[str, Any] | None = None,
    mask: dict[str, Any] | None = None,
    normalize: bool = True,
    **settings: Any,
) -> Path:
    """Write what sentence-transformers' MultiVectorEncoder saves."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    start = folder.with_name(f"{folder.name}-start")
    with_markers(base, start)
    body = Transformer(str(start), **(transformer or {}))
    options = {"bias": False, "activation_function": torch.nn.Identity(), **(dense or {})}
    options = {"out_features": SIZE, **options}
    torch.manual_seed(9)
    layer = Dense(body.get_embedding_dimension(), module_input_name="token_embeddings", **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    modules: list[Any] = [body, layer, MultiVectorMask(**(mask or {}))]
    modules += [Normalize(module_input_name="token_embeddings")] * normalize
    MultiVectorEncoder(modules=modules, device="cpu", **settings).save(str(folder))
    return folder
