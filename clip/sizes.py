"""Sizes of a CLIP: a state dict with OpenAI's keys -> what the shapes of its tensors say."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from dassl.errors import RequestError

__all__ = ["HEAD_WIDTH", "Sizes"]

HEAD_WIDTH = 64  # of OpenAI's models; head counts are in no tensor's shape
_WIDEST = 1024  # of vision towers with such heads; ViT-H's are 80 wide, bigG's 104
_DIMENSIONS = {  # of the tensors whose shapes say all sizes
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "positional_embedding": 2,
    "text_projection": 2,
    "token_embedding.weight": 2,
}


class Sizes(NamedTuple):
    """What the shapes of a state dict say about its model."""

    embed_dim: int
    resolution: int
    patch: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    context_length: int
    vocab_size: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Sizes":
        """Read all sizes from a state dict with OpenAI's keys.

        Raises:
            RequestError: a key is missing, its tensor is empty or of the wrong dimension, or the
                tower is a wider one than this CLIP computes.
        """
        if missing := sorted(_DIMENSIONS.keys() - state.keys()):
            raise RequestError(f"This is no CLIP state dict: it lacks {missing}")
        for key, dimensions in _DIMENSIONS.items():
            shape = tuple(state[key].shape)
            if len(shape) != dimensions or 0 in shape:
                raise RequestError(
                    f"This is no CLIP state dict: {key} has the shape {shape}, where a vision "
                    f"transformer's has {dimensions} dimensions, none of them empty"
                )
        vision_width, _, patch, _ = state["visual.conv1.weight"].shape
        if vision_width > _WIDEST:
            raise RequestError(
                f"Its image tower is {vision_width} wide, and published ones wider than {_WIDEST} "
                f"have other heads than OpenAI's, which are {HEAD_WIDTH} wide"
            )
        num_patches = state["visual.positional_embedding"].shape[0] - 1
        context_length, text_width = state["positional_embedding"].shape
        return cls(
            embed_dim=state["text_projection"].shape[1],
            resolution=patch * round(num_patches**0.5),
            patch=patch,
            vision_width=vision_width,
            vision_layers=_count_layers(state, "visual.transformer.resblocks."),
            text_width=text_width,
            text_layers=_count_layers(state, "transformer.resblocks."),
            context_length=context_length,
            vocab_size=state["token_embedding.weight"].shape[0],
        )


def _count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
