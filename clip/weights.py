"""A published name or a path -> a frozen CLIP. Local files first; nothing in a file is executed."""

import hashlib
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from clip.conversion import library_of, to_openai_keys
from clip.model import CLIP
from dassl.errors import RequestError
from dassl.utils import torchfile

__all__ = ["available_models", "is_local", "load", "load_state_dict"]

_ALIASES = {
    "ViT-B/32": ("ViT-B-32.pt", "timm/vit_base_patch32_clip_224.openai"),
    "ViT-B/16": ("ViT-B-16.pt", "timm/vit_base_patch16_clip_224.openai"),
    "ViT-L/14": ("ViT-L-14.pt", "timm/vit_large_patch14_clip_224.openai"),
    "ViT-L/14@336px": ("ViT-L-14-336px.pt", "timm/vit_large_patch14_clip_336.openai"),
}
_HUB_FILE = "open_clip_model.safetensors"
_OWN_FOLDER = "CLIP_DIR"  # environment variable: a folder with weights files
_DEFAULT_FOLDER = "~/.cache/clip"  # where OpenAI's own loader keeps its archives
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size"}  # sizes that archives also hold


def available_models() -> list[str]:
    """The published names that `load` takes."""
    return list(_ALIASES)


def load(name_or_path: str, activation: str = "quick_gelu") -> CLIP:
    """A frozen CLIP in float32 on the CPU, all sizes read from its tensors' shapes.

    `name_or_path` is a name of `available_models()`, or a file: OpenAI's TorchScript archive, a
    `torch.save`d state dict, or `.safetensors`, with the keys of OpenAI, open_clip or Hugging Face.
    A name is looked up in `$CLIP_DIR`, in ~/.cache/clip and in the Hugging Face cache; otherwise it
    is downloaded from the hub (`HF_ENDPOINT` sets a mirror).

    This CLIP computes QuickGELU, as OpenAI's models do. With `activation` "auto" a file has to show
    by OpenAI's keys that it is one; under other libraries' keys it may be a CLIP with plain GELU.

    Raises:
        RequestError: an unknown name, a ResNet, a file that is not a CLIP, or of another library
            with "auto"; the message says which.
        FileNotFoundError: no such path, or no way to download; it says what to put where.
    """
    path = _locate(name_or_path)
    stored = _read_tensors(path)
    if activation == "auto" and name_or_path not in _ALIASES and (library := library_of(stored)):
        raise RequestError(
            f"{path!r} has the keys of {library}, which do not say whether the model was trained "
            "with QuickGELU. If it was, as OpenAI's models were, set MODEL.BACKBONE.ACTIVATION "
            "quick_gelu; a model with plain GELU cannot be used"
        )
    state = _to_openai(stored, path)
    try:
        return CLIP.from_state_dict(state)
    except RequestError as error:
        raise RequestError(f"{path!r}: {error}") from error


def load_state_dict(path: str) -> dict[str, Tensor]:
    """The tensors of a weights file under OpenAI's keys, as stored.

    Raises:
        RequestError: the file is unreadable, not only tensors, or of a ResNet.
    """
    return _to_openai(_read_tensors(path), path)


def _read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors of a weights file under its own keys."""
    state = _read(path)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise RequestError(
            f"{path!r} holds something other than a state dict. Expected OpenAI's archive, a "
            "state dict written by torch.save, or a .safetensors file."
        )
    if any(key.startswith("visual.layer") for key in state):
        raise RequestError(
            f"{path!r} is a CLIP ResNet; MMRL needs a vision transformer such as ViT-B/16"
        )
    return state


def _to_openai(state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    try:
        state = to_openai_keys(state)
    except (KeyError, RuntimeError, IndexError) as error:
        raise RequestError(
            f"{path!r} has the names of a Hugging Face CLIP and not its tensors: {error}"
        ) from error
    state = {k: v for k, v in state.items() if not k.endswith("attn_mask")}
    return {k: v for k, v in state.items() if k not in _NOT_WEIGHTS}


def _read(path: str) -> Any:
    """What the file holds, which should be a state dict."""
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    stored = torchfile.read(path)
    if isinstance(stored, torchfile.Record):
        return torchfile.named_tensors(stored)
    return stored.get("state_dict", stored) if isinstance(stored, dict) else stored


def _read_safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RequestError(f"Cannot read {path!r}: {error}") from error


def is_local(name_or_path: str) -> bool:
    """Whether `load` would read this machine's disk alone; unknown names count as local."""
    is_file = Path(name_or_path).expanduser().is_file()
    return is_file or name_or_path not in _ALIASES or _find_local(name_or_path) is not None


def _locate(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return str(path)
    if name_or_path in _ALIASES:
        return _find_local(name_or_path) or _download(name_or_path)
    if name_or_path.startswith("RN"):
        raise RequestError(
            f"{name_or_path} is a ResNet; MMRL needs a vision transformer: {available_models()}"
        )
    if path.suffix:
        raise FileNotFoundError(
            f"No CLIP weights at {name_or_path!r}. Give a file or one of {available_models()}"
        )
    raise RequestError(
        f"Unknown CLIP {name_or_path!r}; choose from {available_models()}, or give a weights file"
    )


def _find_local(name: str) -> str | None:
    file_name, repository = _ALIASES[name]
    folders = [os.environ.get(_OWN_FOLDER), _DEFAULT_FOLDER]
    for folder in (Path(f).expanduser() for f in folders if f):
        for candidate in (folder / file_name, (folder / file_name).with_suffix(".safetensors")):
            if candidate.is_file():
                return str(candidate)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, _HUB_FILE)
    return cached if isinstance(cached, str) else None


def _download(name: str) -> str:
    file_name, repository = _ALIASES[name]
    from huggingface_hub import hf_hub_download

    print(f"Downloading CLIP {name} from {repository} (set HF_ENDPOINT for a mirror)")
    try:
        path = hf_hub_download(repository, _HUB_FILE)  # resumes, shows progress
    except Exception as error:  # the hub's client raises a dozen kinds; the remedy is one
        raise FileNotFoundError(
            f"Cannot download CLIP {name} ({type(error).__name__}). Put OpenAI's {file_name} into "
            f"{_DEFAULT_FOLDER} or into the folder that {_OWN_FOLDER} names, or give the path of a "
            "weights file as --backbone."
        ) from error
    _verify(path)
    return path


def _verify(path: str) -> None:
    """Refuse a download whose sha256 is not the one by which the hub's cache names it."""
    blob = Path(os.path.realpath(path))
    if len(blob.name) != 64:
        return
    digest = hashlib.sha256()
    with open(blob, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != blob.name:
        blob.unlink()
        raise RequestError(
            f"The download of {path!r} is damaged and was removed; run the command again"
        )
