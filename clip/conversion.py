"""Other libraries' names for the same tensors: open_clip's and Hugging Face's -> OpenAI's keys."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["library_of", "other_kind", "to_openai_keys"]

_HF_TOP = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # the library's own spelling
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "logit_scale": "logit_scale",
}
_HF_LAYER = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)")
_HF_IN_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_HF_TRANSPOSED = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}
_HF_MARK = "vision_model.embeddings.class_embedding"


_OTHER_KINDS = {  # starts of keys that only other models have
    "logit_bias": "a SigLIP",
    "visual.trunk.": "a model with an image tower of timm, as SigLIP's",
    "vision_model.head.": "a SigLIP",
    "visual.layer": "a CLIP ResNet",
    "visual.attnpool.": "a CLIP ResNet",
}


def other_kind(state: Mapping[str, Tensor]) -> str:
    """What a state dict is of, if it is of no vision transformer like OpenAI's; else empty."""
    kinds = (
        kind for start, kind in _OTHER_KINDS.items() if any(k.startswith(start) for k in state)
    )
    return next(kinds, "")


def library_of(state: Mapping[str, Tensor]) -> str:
    """The library whose keys a state dict has; empty for OpenAI's."""
    if _HF_MARK in state:
        return "Hugging Face"
    return "open_clip" if any(key.startswith("text.") for key in state) else ""


def to_openai_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under OpenAI's keys; a state that has them already comes back as it is."""
    library = library_of(state)
    if library == "Hugging Face":
        return _from_hugging_face(state)
    if library == "open_clip":  # its CustomTextCLIP; its plain CLIP has OpenAI's keys
        return {key.removeprefix("text."): value for key, value in state.items()}
    return dict(state)


def _from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith("position_ids"):
            continue
        if key in _HF_TRANSPOSED:
            converted[_HF_TRANSPOSED[key]] = value.t()
        elif match := _HF_LAYER.fullmatch(key):
            _convert_layer(converted, state, *match.groups())
        else:
            converted[_renamed(key, _HF_TOP)] = value
    return converted


def _convert_layer(
    converted: dict[str, Tensor], state: Mapping[str, Tensor], tower: str, layer: str, name: str
) -> None:
    prefix = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{layer}."
    source = f"{tower}_model.encoder.layers.{layer}."
    match = re.fullmatch(r"self_attn\.[qkv]_proj\.(weight|bias)", name)
    if match:  # one tensor for queries, keys and values
        parts = [state[f"{source}self_attn.{part}_proj.{match[1]}"] for part in "qkv"]
        converted[f"{prefix}attn.in_proj_{match[1]}"] = torch.cat(parts)
    else:
        converted[prefix + _renamed(name, _HF_IN_LAYER)] = state[source + name]


def _renamed(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key
