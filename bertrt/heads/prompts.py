"""Choose what a call puts before a text: a prompt that the model was trained with."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import InputError, shorten

__all__ = ["check_prompt", "choose_prompt"]


def check_prompt(prompt: Any, prompt_name: Any) -> None:
    """Raise InputError unless both are strings or None."""
    for name, value in {"prompt": prompt, "prompt_name": prompt_name}.items():
        if not isinstance(value, (str, type(None))):
            raise InputError(f"{name} is {shorten(value)}: give a string")


def choose_prompt(
    prompt: str | None, prompt_name: str | None, prompts: Mapping[str, str], default: str | None
) -> str:
    """Return what comes before each text; "" for nothing.

    Args:
        prompt: the prompt itself; None for one of the model's.
        prompt_name: which of them; None for its default.
        prompts: the model's prompts by name.
        default: the name of the default one; None if there is none.

    Raises InputError for a name that is not among the prompts.
    """
    if prompt is not None:
        return prompt
    name = default if prompt_name is None else prompt_name
    if name is None:
        return ""
    if name not in prompts:
        if not prompts:
            raise InputError(f"prompt_name is {name!r}, and this model has no prompts: give prompt")
        raise InputError(
            f"prompt_name is {name!r}, and this model's prompts are {', '.join(prompts)}: use one "
            "of them, or give prompt"
        )
    return prompts[name]
