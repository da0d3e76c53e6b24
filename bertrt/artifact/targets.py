"""The targets of an artifact: each device with its engines, and the dtypes of its graphs."""

from dataclasses import dataclass, field

from bertrt.errors import ExportError

__all__ = [
    "DEVICES",
    "DTYPES",
    "ENGINES",
    "OPTIMIZATION_LEVEL",
    "TARGETS",
    "Target",
    "choose_target",
]


@dataclass(frozen=True)
class Target:
    """A device and an engine that runs graphs on it.

    Attributes:
        device: "cpu", "cuda", or "any" for every ONNX runtime.
        engine: "ort" for ONNX Runtime, "triton" for bertrt's own kernels.
        dtypes: what a graph can be exported in; the default comes first.
        provider: ONNX Runtime's execution provider; "triton" for bertrt's own kernels.
        optimization_level: how far ONNX Runtime may optimize the graph when it opens it:
            "disabled", "basic", "extended" or "all".
        least: the oldest versions of the packages that run it.
    """

    device: str
    engine: str
    dtypes: tuple[str, ...]
    provider: str
    optimization_level: str = "disabled"
    least: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The device, with the engine where the device has several: "cuda-triton"."""
        return self.device if self.device != "cuda" else f"{self.device}-{self.engine}"


# The default engine of a device comes first.
TARGETS = (
    Target("any", "ort", ("float32", "int8"), "CPUExecutionProvider", "all"),
    # Only the level "all" blocks convolutions; `bertrt.engines.ort_options` switches off the
    # optimizers of that level which make graphs slower.
    Target("cpu", "ort", ("float32", "int8"), "CPUExecutionProvider", "all"),
    Target(
        "cuda",
        "triton",
        ("float16", "bfloat16", "float32"),
        "triton",
        least={"torch": "2.8", "triton": "3.4"},
    ),
    Target("cuda", "ort", ("float16", "float32"), "CUDAExecutionProvider", "all"),
)
DEVICES = tuple(dict.fromkeys(target.device for target in TARGETS))
ENGINES = tuple(dict.fromkeys(target.engine for target in TARGETS))
OPTIMIZATION_LEVEL = {target.name: target.optimization_level for target in TARGETS}
DTYPES = tuple(dict.fromkeys(dtype for target in TARGETS for dtype in target.dtypes))


def choose_target(device: str, engine: str | None, dtype: str | None) -> tuple[Target, str]:
    """Choose the target and the dtype of an export; None takes the device's default.

    Raises ExportError for an unknown name, and for an engine or a dtype that the device lacks.
    """
    for kind, value, known in (
        ("device", device, DEVICES),
        ("engine", engine, (None, *ENGINES)),
        ("dtype", dtype, (None, *DTYPES)),
    ):
        if value not in known:
            choices = ", ".join(name for name in known if name is not None)
            raise ExportError(f"unknown {kind} {value!r}: choose one of {choices}")
    target = next(
        (one for one in TARGETS if one.device == device and engine in (None, one.engine)), None
    )
    if target is None:
        devices = {one.device for one in TARGETS if one.engine == engine}
        raise ExportError(
            f"the engine {engine!r} runs graphs for the device {_or(devices)}, not {device!r}"
        )
    if dtype is not None and dtype not in target.dtypes:
        places = {
            f"{one.device!r}" + (f" with the engine {one.engine!r}" if one.device == "cuda" else "")
            for one in TARGETS
            if dtype in one.dtypes
        }
        raise ExportError(
            f"{dtype} graphs are made for the device {' or '.join(sorted(places))}, not for "
            f"{device!r}" + (f" with the engine {target.engine!r}" if device == "cuda" else "")
        )
    return target, dtype or target.dtypes[0]


def _or(names: set[str]) -> str:
    return " or ".join(repr(name) for name in sorted(names))
