"""Names of tensors in published checkpoints <-> names in this repository's model.

Published checkpoints hold the whole adapted CLIP: learned tensors, frozen ones, and a tensor that
depends on the class list. Only the learned ones are read; every other key is accounted for.
"""

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["learned_from_published", "to_published"]

_LEARNER = "representation_learner."
# (own, published), tried in order; the rest of the name after a match stays as it is
_RENAMES = (
    (r"^learner\.space$", f"{_LEARNER}compound_rep_tokens"),
    (r"^learner\.to_image\.(\d+)\.", rf"{_LEARNER}compound_rep_tokens_r2vproj.\1."),
    (r"^learner\.to_text\.(\d+)\.", rf"{_LEARNER}compound_rep_tokens_r2tproj.\1."),
    (r"^learner\.to_image\.residuals\.", f"{_LEARNER}srra_r2vproj.srra."),
    (r"^learner\.to_text\.residuals\.", f"{_LEARNER}srra_r2tproj.srra."),
    (r"^learner\.to_image\.", f"{_LEARNER}srra_r2vproj."),
    (r"^learner\.to_text\.", f"{_LEARNER}srra_r2tproj."),
    (r"^image_encoder\.projection\.weight$", "image_encoder.proj_rep"),
    (r"^image_encoder\.projection\.", "image_encoder."),
    (r"^(image|text)_encoder\.tower\.", r"\1_encoder."),
)
_CLASS_LIST = {"prompt_embeddings"}  # rebuilt from the class names, never loaded
_NEVER_PUBLISHED = "text_encoder.token_embedding.weight"


def to_published(name: str) -> str:
    """The published key of a tensor of `MMRLModel`."""
    for own, published in _RENAMES:
        if re.match(own, name):
            return re.sub(own, published, name, count=1)
    return name


def learned_from_published(
    state: Mapping[str, Tensor], learned: Mapping[str, Tensor], frozen: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The entries of `state` for the parameters `learned`, under this repository's names.

    Raises:
        ValueError: a key is missing, surplus or misshapen, or a frozen tensor differs from
            `frozen`, that is, the checkpoint belongs to another CLIP. The message names the keys.
    """
    wanted = {to_published(name): name for name in learned}
    known = {to_published(name): name for name in frozen}
    known.pop(_NEVER_PUBLISHED, None)
    has_clip = any(key in known for key in state)
    expected = set(wanted) | (set(known) if has_clip else set())
    problems = []
    if missing := sorted(expected - set(state)):
        problems.append(f"it lacks {_some(missing)}")
    if surplus := sorted(set(state) - expected - _CLASS_LIST):
        problems.append(f"it has {_some(surplus)}, which this model does not")
    shapes = {**{k: learned[n].shape for k, n in wanted.items()}}
    shapes |= {k: frozen[n].shape for k, n in known.items()}
    for key in sorted(expected & set(state)):
        if state[key].shape != shapes[key]:
            found, own = tuple(state[key].shape), tuple(shapes[key])
            problems.append(f"{key} is {found}, this model's is {own}")
    if problems:
        raise ValueError(f"The checkpoint does not fit: {'; '.join(problems[:4])}{_hint(problems)}")
    if has_clip:
        _check_same_clip(state, known, frozen)
    return {name: state[key] for key, name in wanted.items()}


def _some(keys: list[str], limit: int = 4) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _hint(problems: list[str]) -> str:
    text = " ".join(problems)
    if "compound_rep_tokens is" in text:
        return ". Set N_REP_TOKENS and REP_DIM of the trainer to the checkpoint's shape."
    if "proj." in text or "lacks" in text:
        return ". Is it of the same method (--trainer), REP_LAYERS and backbone?"
    return "."


def _check_same_clip(
    state: Mapping[str, Tensor], known: Mapping[str, str], frozen: Mapping[str, Tensor]
) -> None:
    for key, name in known.items():
        theirs, ours = state[key].float(), frozen[name].float().cpu()
        gap = (theirs - ours).abs().max()
        if gap > 2e-3 * max(1.0, ours.abs().max().item()):  # half precision is within 5e-4
            raise ValueError(
                f"The checkpoint was trained on another CLIP: {key} differs by {gap:.2g} from the "
                "backbone's. Give its backbone as --backbone NAME_OR_FILE."
            )
