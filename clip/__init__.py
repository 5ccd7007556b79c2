"""CLIP, frozen: `available_models()`, `is_name(text)`, `load(name_or_path)`, `tokenize(texts)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip.tokenizer import tokenize
    from clip.weights import available_models, is_name, load

__all__ = ["available_models", "is_name", "load", "tokenize"]


def __getattr__(name: str) -> Any:
    """Import on first use: whoever only tokenizes does not wait for the model's imports."""
    if name == "tokenize":
        from clip.tokenizer import tokenize

        return tokenize
    if name in ("available_models", "is_name", "load"):
        from clip import weights

        return getattr(weights, name)
    raise AttributeError(f"module 'clip' has no attribute {name!r}")
