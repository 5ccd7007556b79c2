"""The published keys of what was learned <-> this repository's tensors: one table, read both ways.

Here the maps of all listed layers are one tensor, (layers, ...); published checkpoints hold a
tensor a layer. They also hold the whole adapted CLIP, and a tensor that depends on the class list.
Only the learned tensors are read; every other key is accounted for.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dassl.errors import RequestError
from trainer.method.model import MMRLModel

__all__ = [
    "is_learned",
    "is_published",
    "learned_state",
    "load_learned",
    "optimizer_state",
    "stack_layers",
]

_LEARNER = "representation_learner."
# Groups of own name in `MMRLModel` -> published key, in the order of published files, which list
# one layer after another within a group; {} is a listed layer's position, from 0.
_GROUPS: tuple[dict[str, str], ...] = (
    {"learner.space": f"{_LEARNER}compound_rep_tokens"},
    {
        "learner.to_image.weight": f"{_LEARNER}compound_rep_tokens_r2vproj.{{}}.weight",
        "learner.to_image.bias": f"{_LEARNER}compound_rep_tokens_r2vproj.{{}}.bias",
    },
    {
        "learner.to_text.weight": f"{_LEARNER}compound_rep_tokens_r2tproj.{{}}.weight",
        "learner.to_text.bias": f"{_LEARNER}compound_rep_tokens_r2tproj.{{}}.bias",
    },
    {"learner.to_image.shared": f"{_LEARNER}srra_r2vproj.weight"},
    {
        "learner.to_image.residuals.A": f"{_LEARNER}srra_r2vproj.srra.{{}}.A",
        "learner.to_image.residuals.B": f"{_LEARNER}srra_r2vproj.srra.{{}}.B",
        "learner.to_image.residuals.bias": f"{_LEARNER}srra_r2vproj.srra.{{}}.bias",
    },
    {"learner.to_text.shared": f"{_LEARNER}srra_r2tproj.weight"},
    {
        "learner.to_text.residuals.A": f"{_LEARNER}srra_r2tproj.srra.{{}}.A",
        "learner.to_text.residuals.B": f"{_LEARNER}srra_r2tproj.srra.{{}}.B",
        "learner.to_text.residuals.bias": f"{_LEARNER}srra_r2tproj.srra.{{}}.bias",
    },
    {"learner.projection.weight": "image_encoder.proj_rep"},
    {"learner.projection.A": "image_encoder.A", "learner.projection.B": "image_encoder.B"},
)
_TABLE = {own: key for group in _GROUPS for own, key in group.items()}
_PATTERNS = {
    own: re.compile(re.escape(key).replace(r"\{\}", r"(\d+)")) for own, key in _TABLE.items()
}
_FROZEN = re.compile(r"^(image|text)_encoder\.tower\.")  # published without `tower.`
_CLASS_LIST = {"prompt_embeddings"}  # rebuilt from the class names, never loaded
_NEVER_PUBLISHED = "text_encoder.token_embedding.weight"
_CLIP_TOLERANCE = 2e-3  # relative; values rounded to half precision are within 5e-4


class Entry(NamedTuple):
    """One tensor of a published file, and where it is in the model."""

    key: str
    name: str
    layer: int | None  # position among the listed layers; None: the whole tensor

    def of(self, tensor: Tensor) -> Tensor:
        """This entry's part of the own tensor."""
        return tensor if self.layer is None else tensor[self.layer]


def entries(learned: Mapping[str, Tensor]) -> Iterator[Entry]:
    """The published entries of the own tensors `learned`, in published order.

    A tensor that the table does not know, of a method of one's own, keeps its name.
    """
    for group in _GROUPS:
        rows = {own: key for own, key in group.items() if own in learned}
        if not any("{}" in key for key in rows.values()):
            yield from (Entry(key, own, None) for own, key in rows.items())
            continue
        for layer in range(len(learned[next(iter(rows))])):
            yield from (Entry(key.format(layer), own, layer) for own, key in rows.items())
    yield from (Entry(own, own, None) for own in learned if own not in _TABLE)


def is_learned(key: str) -> bool:
    """Whether a published key is of a trained tensor, not of CLIP or the class list."""
    return any(pattern.fullmatch(key) for pattern in _PATTERNS.values())


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether the published program wrote this `state_dict`, of all tensors of the model."""
    return not _CLASS_LIST.isdisjoint(state)


def learned_state(model: MMRLModel) -> "OrderedDict[str, Tensor]":
    """What a model has learned, and nothing else, under the published keys."""
    learned = {name: p.detach() for name, p in model.learned().items()}
    return OrderedDict((entry.key, entry.of(learned[entry.name])) for entry in entries(learned))


def stack_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors of a published state dict under this repository's names.

    Raises:
        RequestError: a layer is missing, or differs in shape from the others.
    """
    found: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        for own, pattern in _PATTERNS.items():
            if match := pattern.fullmatch(key):
                found.setdefault(own, {})[int(match[1]) if match.groups() else -1] = tensor
    stacked = {}
    for own, parts in found.items():
        if "{}" not in _TABLE[own]:
            stacked[own] = parts[-1]
            continue
        if missing := sorted(set(range(max(parts) + 1)) - set(parts)):
            raise RequestError(f"The checkpoint lacks {_TABLE[own].format(missing[0])}")
        if len({part.shape for part in parts.values()}) > 1:
            raise RequestError(f"The checkpoint's {_TABLE[own].format('*')} differ in shape")
        stacked[own] = torch.stack([parts[layer] for layer in sorted(parts)])
    return stacked


@torch.no_grad()
def load_learned(model: MMRLModel, state: Mapping[str, Tensor]) -> None:
    """Fill a model's learned tensors from its own, or a published, checkpoint's `state_dict`.

    Raises:
        RequestError: a key is missing, surplus or misshapen, or a frozen tensor differs from the
            model's, that is, the checkpoint belongs to another CLIP. The message names the keys.
    """
    # a baseline's cache is as large as its file says
    if make_room := getattr(model, "make_room", None):
        make_room(state)
    learned = model.learned()
    wanted = {entry.key: entry for entry in entries(learned)}
    frozen = _frozen_tensors(model, learned)
    frozen = frozen if any(key in frozen for key in state) else {}
    own = {key: entry.of(learned[entry.name]) for key, entry in wanted.items()} | frozen
    _check_fit(state, own)
    for key, tensor in frozen.items():
        _check_same_clip(key, state[key], tensor)
    for key in wanted:
        own[key].copy_(state[key])


def optimizer_state(
    published: dict[str, Any], state: Mapping[str, Tensor], learned: Mapping[str, Tensor]
) -> dict[str, Any]:
    """A published optimizer's state, which has a tensor a layer and lists frozen ones too, as ours.

    `state` is the checkpoint's `state_dict`, whose learned keys come in the optimizer's order.
    """
    trained = [published["state"][index] for index in sorted(published["state"])]
    of_key = dict(zip((key for key in state if is_learned(key)), trained, strict=True))
    moments: dict[str, list[dict]] = {name: [] for name in learned}
    for entry in entries(learned):
        moments[entry.name].append(of_key[entry.key])
    names = [name for name in learned if moments[name]]
    joined = {i: _join(moments[name], learned[name].shape) for i, name in enumerate(names)}
    group = published["param_groups"][0] | {"params": list(joined)}
    return {"state": joined, "param_groups": [group]}


def _join(parts: list[dict[str, Any]], shape: torch.Size) -> dict[str, Any]:
    """Moments of the layers of one tensor; all have taken equally many steps."""
    first = parts[0]
    names = [name for name in first if name != "step"]
    stacked = {name: torch.stack([part[name] for part in parts]).view(shape) for name in names}
    return {"step": first["step"]} | stacked


def _frozen_tensors(model: MMRLModel, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's tensors under the published keys."""
    named = {name: p for name, p in model.named_parameters() if name not in learned}
    published: dict[str, Tensor] = {
        _FROZEN.sub(r"\1_encoder.", name): p for name, p in named.items()
    }
    published.pop(_NEVER_PUBLISHED, None)
    return published


def _check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    problems = []
    if missing := sorted(set(own) - set(state)):
        problems.append(f"it lacks {_some(missing)}")
    if surplus := sorted(set(state) - set(own) - _CLASS_LIST):
        problems.append(f"it has {_some(surplus)}, which this model does not")
    for key in sorted(set(own) & set(state)):
        if state[key].shape != own[key].shape:
            found, wanted = tuple(state[key].shape), tuple(own[key].shape)
            problems.append(f"{key} is {found}, this model's is {wanted}")
    if problems:
        raise RequestError(
            f"The checkpoint does not fit: {'; '.join(problems[:4])}{_hint(problems)}"
        )


def _some(keys: list[str], limit: int = 4) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _hint(problems: list[str]) -> str:
    text = " ".join(problems)
    if "compound_rep_tokens is" in text:
        return ". Set N_REP_TOKENS and REP_DIM of the trainer to the checkpoint's shape."
    if "proj." in text or "lacks" in text:
        return ". Was it trained with the same method (--trainer), REP_LAYERS and backbone?"
    return "."


def _check_same_clip(key: str, stored: Tensor, frozen: Tensor) -> None:
    theirs, ours = stored.float(), frozen.float().cpu()
    gap = (theirs - ours).abs().max()
    if gap > _CLIP_TOLERANCE * max(1.0, ours.abs().max().item()):
        raise RequestError(
            f"The checkpoint was trained on another CLIP: {key} differs by {gap:.2g} from the "
            "backbone's. Give its backbone as --backbone NAME_OR_FILE."
        )
