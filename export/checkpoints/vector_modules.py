"""Read the modules of a sentence-transformers model that make a text's vector, with weights."""

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.torch_weights import read_pickle, read_safetensors
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE, Module, read_module_list
from bertrt.export.vector_modules import Dense, Normalize, VectorModules

__all__ = [
    "POOLING_FLAGS",
    "WEIGHT_FILES",
    "read_dense",
    "read_module_config",
    "read_vector_modules",
]

# The files of a module's weights, the best first.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SENTENCE_EMBEDDING = "sentence_embedding"

# The older flags of a pooling, in the order in which their vectors are concatenated.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_vector_modules(folder: Path, hidden_size: int) -> VectorModules:
    """Return a model's modules; the mean and a length of 1 for a folder without modules.json.

    Args:
        folder: the model's folder.
        hidden_size: the size of its hidden states.

    Raises ExportError for a damaged file, missing weights, sizes that do not fit, and for a module
    or setting that bertrt does not have.
    """
    if not (folder / MODULES_FILE).is_file():
        return VectorModules(("mean",), [Normalize()], hidden_size)
    modules = read_module_list(folder / MODULES_FILE)
    kinds = [module.kind for module in modules]
    unknown = next((kind for kind in kinds if kind not in ("Transformer", "Pooling", *_READ)), None)
    if unknown is not None or kinds[:2] != ["Transformer", "Pooling"] or "Pooling" in kinds[2:]:
        problem = f"a {unknown} module" if unknown else f"the modules {', '.join(kinds)}"
        raise ExportError(
            f"{MODULES_FILE} has {problem}, and bertrt exports a Transformer, a Pooling and then "
            f"{', '.join(_READ)}: remove the file to export the hidden states alone"
        )
    pooling, include_prompt = _pooling(folder / modules[1].path / "config.json")
    size, steps = hidden_size * len(pooling), []
    for module in modules[2:]:
        step, size = _READ[module.kind](folder, module, size)
        if step is not None:
            steps.append(step)
    if not include_prompt and any(not isinstance(step, Normalize) for step in steps):
        raise ExportError(
            "the pooling's include_prompt is false and a Dense or LayerNorm follows it, which "
            "bertrt does not have together: set include_prompt to true, or remove "
            f"{MODULES_FILE} to export the hidden states alone"
        )
    return VectorModules(pooling, steps, size, include_prompt=include_prompt)


def _pooling(path: Path) -> tuple[tuple[str, ...], bool]:
    """Return the poolings, and whether a prompt's tokens are pooled."""
    config = read_module_config(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if (
        not isinstance(modes, list)
        or not modes
        or not set(map(str, modes)) <= {*POOLING_FLAGS.values()}
    ):
        raise ExportError(
            f"the pooling in {path.parent.name}/{path.name} is {config.get('pooling_mode')!r}: "
            f"bertrt has {', '.join(POOLING_FLAGS.values())}"
        )
    return tuple(modes), bool(config.get("include_prompt", True))


def read_dense(
    folder: Path, module: Module, size: int, names: Collection[str] = (_SENTENCE_EMBEDDING,)
) -> tuple[torch.nn.Module, int]:
    """Read a Dense that takes vectors of `size`; returns the size of what it gives as well.

    Args:
        folder: the model's folder.
        module: the Dense.
        size: the size of the vectors before it.
        names: what it may read and write, by sentence-transformers' names.

    Raises ExportError for a damaged file, missing weights, sizes that do not fit, and for a setting
    that bertrt does not have.
    """
    where = f"{module.path}/config.json"
    config = read_module_config(folder / where)
    _check_names(config, where, names)
    sizes = config.get("in_features"), config.get("out_features")
    if sizes[0] != size or type(sizes[1]) is not int or sizes[1] < 1:
        raise ExportError(
            f"the Dense in {where} has {sizes[0]!r} in_features and {sizes[1]!r} out_features, and "
            f"the modules before it give {size}: correct the file, or download it again"
        )
    # Without memory until its weights are read: out_features may be any number.
    with torch.device("meta"):
        layer = Dense(
            (size, sizes[1]),
            _activation(config.get("activation_function", "torch.nn.Tanh"), where, sizes[1]),
            bias=bool(config.get("bias", True)),
            residual=bool(config.get("use_residual", False)),
        )
    _load(layer, folder / module.path)
    return layer, sizes[1]


def _check_names(
    config: dict[str, Any], where: str, names: Collection[str] = (_SENTENCE_EMBEDDING,)
) -> None:
    """Raise ExportError for a module that reads or writes something other than `names`."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, *names):
            raise ExportError(
                f"{key} in {where} is {config[key]!r}, and bertrt has modules of "
                f"{' and '.join(map(repr, names))} only here: remove {MODULES_FILE} to export the "
                "hidden states alone"
            )


def _activation(name: Any, where: str, size: int) -> torch.nn.Module:
    """Return an activation of PyTorch by the path of its class; None is the identity.

    It is made without arguments, as in sentence-transformers, and tried on a vector of `size`.
    """
    if name is None:
        return torch.nn.Identity()
    package, _, short = str(name).rpartition(".")
    cls = getattr(torch.nn, short, None) if package.startswith("torch.nn") else None
    if isinstance(cls, type) and issubclass(cls, torch.nn.Module):
        # A module of torch.nn that is no activation fails in ways of its own.
        with contextlib.suppress(Exception):
            layer = cls()
            if layer(torch.zeros(1, size)).shape == (1, size):
                return layer
    raise ExportError(
        f"activation_function in {where} is {name!r}, and bertrt has the activations of torch.nn, "
        f"such as 'torch.nn.Tanh': correct it, or remove {MODULES_FILE} to export the hidden "
        "states alone"
    )


def _layer_norm(folder: Path, module: Module, size: int) -> tuple[torch.nn.Module, int]:
    """Read a LayerNorm of vectors of `size`."""
    where = f"{module.path}/config.json"
    dimension = read_module_config(folder / where).get("dimension")
    if dimension != size:
        raise ExportError(
            f"the LayerNorm in {where} has the dimension {dimension!r}, and the modules before it "
            f"give {size}: correct the file, or download it again"
        )
    layer = torch.nn.LayerNorm(size)
    _load(layer, folder / module.path, prefix="norm.")
    return layer, size


def _normalize(folder: Path, module: Module, size: int) -> tuple[torch.nn.Module, int]:
    """Read a Normalize, which older versions saved without a file."""
    where = f"{module.path}/config.json"
    if (folder / where).is_file():
        _check_names(read_module_config(folder / where), where)
    return Normalize(), size


def _dropout(folder: Path, module: Module, size: int) -> tuple[None, int]:
    """Leave a Dropout out: it acts in training only."""
    return None, size


# How each module after the pooling is read.
_READ = {
    "Dense": read_dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
    "Dropout": _dropout,
}


def read_module_config(path: Path) -> dict[str, Any]:
    """Return the contents of a module's config.json.

    Raises ExportError if there is none, or if it is damaged.
    """
    if not path.is_file():
        raise ExportError(f"{path.parent.name!r} has no {path.name}: download it again")
    return read_json(path, f"{path.parent.name}/{path.name}")


def _load(layer: torch.nn.Module, folder: Path, prefix: str = "") -> None:
    """Load a layer's weights from its folder, whose names have a prefix."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise ExportError(f"{folder.name!r} has no {' or '.join(WEIGHT_FILES)}: download it again")
    where = f"{folder.name}/{path.name}"
    contents = (read_safetensors if path.suffix == ".safetensors" else read_pickle)(path)
    stored = {name: array.read().float() for name, array in contents.arrays.items()}
    wanted = {prefix + name: tensor for name, tensor in layer.state_dict().items()}
    if stored.keys() != wanted.keys():
        raise ExportError(
            f"{where} holds {', '.join(sorted(stored)) or 'no weights'}, and the module needs "
            f"{', '.join(sorted(wanted))}: download it again"
        )
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape:
            raise ExportError(
                f"{name} in {where} has shape {list(stored[name].shape)}, and config.json says "
                f"{list(tensor.shape)}: download it again"
            )
    layer.load_state_dict({name.removeprefix(prefix): stored[name] for name in wanted}, assign=True)
