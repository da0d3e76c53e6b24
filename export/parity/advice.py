"""What the errors of the parity check tell a user to try."""

__all__ = ["REPORT", "TRY"]

REPORT = "report this error with the output of `bertrt doctor`"
TRY = (
    "try --device any, or newer versions of torch, transformers and onnxruntime; if it stays, "
    f"{REPORT}"
)
