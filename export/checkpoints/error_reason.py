"""The first line of an exception's message, for messages of one sentence."""

__all__ = ["error_reason"]


def error_reason(error: Exception) -> str:
    """Return the first line of an exception's message, or its class if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
