"""A published name or a path -> a frozen CLIP. Local files first; nothing in a file is executed."""

import hashlib
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from clip.conversion import library_of, other_kind, to_openai_keys
from clip.descriptions import (
    OPEN_CLIP,
    HubFile,
    activation_beside,
    is_folder,
    open_clip_entry,
    weights_in,
)
from clip.model import CLIP
from dassl.errors import RequestError
from dassl.utils import torchfile

__all__ = ["available_models", "is_local", "is_name", "load", "load_state_dict"]

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


def is_name(name_or_path: str) -> bool:
    """Whether `load` takes it for a published name, and looks for no such path."""
    return name_or_path in _ALIASES or name_or_path.startswith(OPEN_CLIP)


def load(name_or_path: str, activation: str = "auto") -> CLIP:
    """A frozen CLIP in float32 on the CPU, all sizes read from its tensors' shapes.

    `name_or_path` is a name of `available_models()` or of open_clip's tables, as
    open_clip:MODEL/TAG; a file: OpenAI's TorchScript archive, a `torch.save`d state dict, or
    `.safetensors`, with the keys of OpenAI, open_clip or Hugging Face; or a folder of Hugging
    Face's or open_clip's with its config. A name is looked up in `$CLIP_DIR`, in ~/.cache/clip and
    in the Hugging Face cache; otherwise it is downloaded from the hub (`HF_ENDPOINT` sets a
    mirror).

    `activation` is quick_gelu, gelu, or "auto": what the name, the archive or the config beside the
    file says. A bare file under OpenAI's keys is then taken to be of QuickGELU, which is printed.

    Raises:
        RequestError: an unknown name, a ResNet, a SigLIP, a file that is not a CLIP, or with "auto"
            a bare file under another library's keys; the message says which.
        FileNotFoundError: no such path, or no way to download; it says what to put where.
    """
    path = _locate(name_or_path)
    stored = _read_tensors(path)
    said = _said_activation(name_or_path, path, stored)
    state = _to_openai(stored, path)
    activation = _choose(activation, said, path, library_of(stored))
    try:
        return CLIP.from_state_dict(state, activation)
    except RequestError as error:
        raise RequestError(f"{path!r}: {error}") from error


def _said_activation(name: str, path: str, stored: dict[str, Tensor]) -> str:
    """The activation that the model was trained with, as far as anything says it; else empty."""
    if name in _ALIASES or _NOT_WEIGHTS & stored.keys():  # only OpenAI's archives hold sizes
        return "quick_gelu"
    if name.startswith(OPEN_CLIP):
        return open_clip_entry(name).activation
    return activation_beside(path, library_of(stored))


def _choose(wanted: str, said: str, path: str, library: str) -> str:
    """The activation to compute; what cannot be known is refused, what may be wrong printed."""
    if wanted != "auto":
        if said and said != wanted:
            print(f"CLIP computes {wanted}, but {path!r} was trained with {said}")
        return wanted
    if not said and library:
        raise RequestError(
            f"{path!r} has the keys of {library}, which do not say the activation; set "
            "MODEL.BACKBONE.ACTIVATION quick_gelu, as of OpenAI's and Apple's DFN models, or gelu, "
            "as of most that LAION trained"
        )
    if not said:
        print(
            f"{path!r} is taken to be of QuickGELU, as OpenAI's models; one that open_clip trained "
            "with GELU needs MODEL.BACKBONE.ACTIVATION gelu"
        )
    return said or "quick_gelu"


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
    # as checkpoints of parallel training name them
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if kind := other_kind(state):
        raise RequestError(f"{path!r} is {kind}; MMRL needs a vision transformer such as ViT-B/16")
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
    path = Path(name_or_path).expanduser()
    is_there = path.is_file() or is_folder(path) or not is_name(name_or_path)
    return is_there or _find_local(name_or_path) is not None


def _locate(name_or_path: str) -> str:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return str(path)
    if is_folder(path):
        return weights_in(path)
    if is_name(name_or_path):
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
        f"Unknown CLIP {name_or_path!r}; choose from {available_models()}, open_clip:MODEL/TAG, or "
        "give a weights file or its folder"
    )


def _file_name(name: str) -> str:
    """What a published name's file is called in one's own folder."""
    if name in _ALIASES:
        return _ALIASES[name][0]
    return f"{name.removeprefix(OPEN_CLIP).replace('/', '-')}.pt"


def _on_hub(name: str) -> HubFile:
    if name in _ALIASES:
        return HubFile(_ALIASES[name][1], (_HUB_FILE,), "quick_gelu")
    return open_clip_entry(name)


def _find_local(name: str) -> str | None:
    folders = [os.environ.get(_OWN_FOLDER), _DEFAULT_FOLDER]
    for folder in (Path(f).expanduser() for f in folders if f):
        file = folder / _file_name(name)
        for candidate in (file, file.with_suffix(".safetensors")):
            if candidate.is_file():
                return str(candidate)
    from huggingface_hub import try_to_load_from_cache

    hub = _on_hub(name)
    cached = (try_to_load_from_cache(hub.repository, file_name) for file_name in hub.names)
    return next((path for path in cached if isinstance(path, str)), None)


def _download(name: str) -> str:
    hub = _on_hub(name)
    print(f"Downloading CLIP {name} from {hub.repository} (set HF_ENDPOINT for a mirror)")
    try:
        path = _fetch(hub)
    except Exception as error:  # the hub's client raises a dozen kinds; the remedy is one
        owner = "OpenAI's " if name in _ALIASES else ""
        raise FileNotFoundError(
            f"Cannot download CLIP {name} ({type(error).__name__}). Put {owner}{_file_name(name)} "
            f"into {_DEFAULT_FOLDER} or into the folder that {_OWN_FOLDER} names, or give the path "
            "of a weights file as --backbone."
        ) from error
    _verify(path)
    return path


def _fetch(hub: HubFile) -> str:
    """The path in the cache of the first file that the repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    *others, last = hub.names
    for name in others:
        try:
            return hf_hub_download(hub.repository, name)  # resumes, shows progress
        except LocalEntryNotFoundError:  # offline, a kind of the next
            raise
        except EntryNotFoundError:
            continue
    return hf_hub_download(hub.repository, last)


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
