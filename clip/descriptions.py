"""What says which activation a CLIP was trained with: open_clip's tables, a folder's config file.

Descriptions of models that this CLIP does not compute are refused by the part that differs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clip.sizes import HEAD_WIDTH
from dassl.errors import RequestError, parse_json, quote, read_text

__all__ = [
    "OPEN_CLIP",
    "HubFile",
    "activation_beside",
    "is_folder",
    "open_clip_entry",
    "weights_in",
]

OPEN_CLIP = "open_clip:"  # of names open_clip:MODEL/TAG
_HF_CONFIG = "config.json"
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_FILES = {  # of weights, by the file that describes them; the first that is there is read
    _HF_CONFIG: ("model.safetensors", "pytorch_model.bin"),
    _OPEN_CLIP_CONFIG: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
_HF_ACTIVATIONS = ("quick_gelu", "gelu")
_HF_HEADS = {"vision": (768, 12), "text": (512, 8)}  # width and heads that a config leaves out
_OPEN_CLIP_KEYS = {  # of configs whose models are OpenAI's but for sizes and activation
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # that OpenAI's pictures are normalised with


class HubFile(NamedTuple):
    """Weights on the Hugging Face hub, and the activation that they were trained with."""

    repository: str
    names: tuple[str, ...]  # of the file, the first that is there
    activation: str


def open_clip_entry(name: str) -> HubFile:
    """The entry of open_clip's own tables for open_clip:MODEL/TAG.

    Raises:
        RequestError: open_clip is not installed, has no such entry, or its model is another kind.
    """
    open_clip = _import_open_clip()
    model, _, tag = name.removeprefix(OPEN_CLIP).partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model)
    entry = open_clip.get_pretrained_cfg(model, tag)
    if not entry:
        known = f"its tags are {tags}" if tags else f"models are such as {_examples(open_clip)}"
        raise RequestError(f"open_clip has no {name.removeprefix(OPEN_CLIP)!r}; {known}")
    activation = _of_open_clip(open_clip.get_model_config(model) or {}, name)
    # the tag says it too: its weights under the plain model's name are still of QuickGELU
    activation = "quick_gelu" if entry.get("quick_gelu") else activation
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    mean = tuple(entry.get("mean", _MEAN))
    if mean != _MEAN or not repository:
        found = "is not on the hub" if mean == _MEAN else f"takes pictures of another mean, {mean}"
        raise RequestError(
            f"{name} {found}; give its file as --backbone with MODEL.BACKBONE.ACTIVATION "
            f"{activation}, and its INPUT.PIXEL_MEAN and INPUT.PIXEL_STD"
        )
    return HubFile(repository, (file,) if file else _FILES[_OPEN_CLIP_CONFIG], activation)


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise RequestError(f"{OPEN_CLIP}MODEL/TAG needs open_clip_torch: {error}") from error
    # older tables leave it out, also where the plain model's name is wrong
    if not open_clip.get_pretrained_cfg("ViT-B-32", "openai").get("quick_gelu"):
        raise RequestError(
            f"{OPEN_CLIP}MODEL/TAG needs an open_clip_torch whose tables say the activation: pip "
            "install -U open_clip_torch"
        )
    return open_clip


def _examples(open_clip: Any) -> list[str]:
    return [name for name in open_clip.list_models() if name.startswith("ViT-B-")][:4]


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder with a file that describes a model."""
    return path.is_dir() and any((path / name).is_file() for name in _FILES)


def weights_in(folder: Path) -> str:
    """The weights file in a folder that describes them.

    Raises:
        FileNotFoundError: there is none.
    """
    for description, names in _FILES.items():
        for name in names:
            if (folder / description).is_file() and (folder / name).is_file():
                return str(folder / name)
    wanted = [name for names in _FILES.values() for name in names]
    raise FileNotFoundError(f"{str(folder)!r} holds no weights; expected one of {wanted}")


def activation_beside(path: str, library: str) -> str:
    """What the config in a weights file's folder says of the file; empty: there is none of a CLIP.

    `library` is that of the file's keys: a folder may hold the same model for both libraries.

    Raises:
        RequestError: the config is no JSON object, or of a model that this CLIP does not compute.
    """
    is_hugging_face = library == "Hugging Face"
    config = Path(path).parent / (_HF_CONFIG if is_hugging_face else _OPEN_CLIP_CONFIG)
    if not config.is_file():
        return ""
    values = _read(config)
    if is_hugging_face:
        return _of_hugging_face(values, str(config))
    return _of_open_clip(values.get("model_cfg", values), str(config))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"Cannot read {str(path)!r}: {error}") from error
    if not isinstance(values, dict):
        raise RequestError(f"{str(path)!r} is not a JSON object")
    return values


def _of_hugging_face(config: Mapping[str, Any], source: str) -> str:
    kind = config.get("model_type", "clip")
    if kind != "clip":
        raise RequestError(f"{source!r} is of a {quote(kind)}; MMRL needs a clip")
    said = {}
    for tower, (width, heads) in _HF_HEADS.items():
        values = _part(config, f"{tower}_config", source)
        said[tower] = values.get("hidden_act", "quick_gelu")  # the library's default
        width, heads = values.get("hidden_size", width), values.get("num_attention_heads", heads)
        if width != heads * HEAD_WIDTH:
            _refuse(source, f"{heads} heads at width {width}, where CLIP's are {HEAD_WIDTH} wide")
    if said["vision"] != said["text"] or said["vision"] not in _HF_ACTIVATIONS:
        _refuse(source, f"the activations {said}, which have to be quick_gelu twice or gelu twice")
    return str(said["vision"])


def _of_open_clip(config: Mapping[str, Any], source: str) -> str:
    for name, known in _OPEN_CLIP_KEYS.items():
        values = _part(config, name, source) if name else config
        if strange := sorted(values.keys() - known):
            _refuse(source, f"{name or 'the model'} with {strange}, which OpenAI's models lack")
    vision, text = (_part(config, f"{tower}_cfg", source) for tower in ("vision", "text"))
    if isinstance(vision.get("layers"), list):
        _refuse(source, "a ResNet")
    heads = {"head_width": vision.get("head_width", HEAD_WIDTH)}
    heads |= {"text width": text.get("width", 512) // text.get("heads", 8)}
    if set(heads.values()) != {HEAD_WIDTH}:
        _refuse(source, f"{heads}, where CLIP's heads are {HEAD_WIDTH} wide")
    return "quick_gelu" if config.get("quick_gelu") else "gelu"


def _part(config: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    values = config.get(name) or {}
    if not isinstance(values, dict):
        raise RequestError(f"{source!r}: {name} is not a JSON object")
    return values


def _refuse(source: str, found: str) -> None:
    raise RequestError(f"{source!r} describes {found}; MMRL needs a ViT such as OpenAI's ViT-B/16")
