"""What a stored file is of: settings, classes, pictures and CLIP, compared with a request's.

Checkpoints, resume files, exported files and results.json hold it as plain values under the key
"identity", with a digest of all that the file holds. Files of other programs have none.
"""

import functools
import hashlib
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clip.model import CLIP
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from dassl.utils.torchfile import Record
from trainer.checkpoints.settings import (
    ACTIVATION,
    BACKBONE,
    is_circumstance,
    plain_settings,
    recorded,
    unread_nodes,
)
from trainer.config import extend_cfg, flatten
from trainer.methods import has_trainer
from trainer.own_modules import files_of

__all__ = [
    "KEY",
    "Identity",
    "check_digest",
    "check_trainer",
    "fingerprint",
    "fingerprint_of_learned",
    "first_difference",
    "identity_of",
    "other_backbone",
    "other_pictures",
    "plain_settings",
    "seal",
]

KEY = "identity"
_DIGEST = "digest"
_VERSION = "1.0"  # where git does not say
_REPOSITORY = Path(__file__).resolve().parents[2]

_KINDS: dict[str, type | tuple[type, ...]] = {
    **{"trainer": str, "settings": dict, "classnames": (list, tuple), "draw_sha256": str},
    **{"backbone_sha256": str, "code_version": str, _DIGEST: str},
}
# which the first files lack
_LATER_KINDS = {"pictures": dict, "model_sha256": str, "own_modules": dict}
_PART_NAMES = {"train": "training", "val": "validation", "tested": "test"}


class Identity(NamedTuple):
    """Empty strings and lists are of what is not known; they are compared with nothing."""

    trainer: str  # registered name
    settings: dict[str, Any]  # by full key, without circumstances
    classnames: Sequence[str] = ()  # that were trained, in label order
    draw_sha256: str = ""  # of the training pictures
    backbone_sha256: str = ""  # `fingerprint` of the frozen CLIP
    code_version: str = ""  # recorded, never compared
    pictures: Mapping[str, str] = {}  # part -> sha256 of what they hold, see `pictures_of`
    model_sha256: str = ""  # of what was loaded, if the results are an evaluation's
    own_modules: Mapping[str, str] = {}  # file name -> sha256; recorded, never compared

    @classmethod
    def read(cls, content: Mapping[str, Any], path: str) -> "Identity | None":
        """The identity in a file's content; None: the file has none.

        Raises:
            RequestError: the content is not what was written.
        """
        if KEY not in content:
            return None
        check_digest(content, path)
        stored = content[KEY]
        return cls(**{name: stored[name] for name in cls._fields if name in stored})

    def untested(self) -> "Identity":
        """The same without the test pictures, which training does not depend on."""
        pictures = {part: sha for part, sha in self.pictures.items() if part != "tested"}
        return self._replace(pictures=pictures)


def check_trainer(trainer: str, source: str, own_modules: Mapping[str, str] = {}) -> None:
    """That the trainer which made what is stored at `source` is registered.

    Raises:
        RequestError: it is not; with what to give.
    """
    if not has_trainer(trainer):
        file = next(iter(own_modules), "FILE.py")
        raise RequestError(
            f"{source} was trained by {trainer}, which is not known here; give --trainer-module "
            f"{file}, the file that registers it"
        )


def identity_of(cfg: Any, dataset: Any, frozen: CLIP) -> Identity:
    """The identity of a run with this config on these training pictures, around this CLIP."""
    return Identity(
        trainer=cfg.TRAINER.NAME,
        settings=plain_settings(flatten(cfg)) | {ACTIVATION: frozen.activation},  # not "auto"
        classnames=list(dataset.classnames),
        draw_sha256=getattr(dataset, "draw_hash", None) or "",
        backbone_sha256=fingerprint(frozen),
        code_version=_code_version(),
        own_modules=files_of(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), type(dataset)),
    )


@functools.cache
def _code_version() -> str:
    """What git calls the code, else the version."""
    if not (_REPOSITORY / ".git").exists():
        return _VERSION
    words = ["git", "describe", "--tags", "--always", "--dirty"]
    try:
        done = subprocess.run(
            words, cwd=_REPOSITORY, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return _VERSION
    return done.stdout.strip()


def fingerprint(model: CLIP) -> str:
    """sha256 of a CLIP's tensors under OpenAI's keys, in float32 with matrices rounded to half.

    So one CLIP in two file formats has one fingerprint; with another activation it has another.
    """
    digest = hashlib.sha256()
    matrices = {id(p) for p in model.matrices()}
    named = {name.removeprefix("text."): p for name, p in model.named_parameters()}
    for key in sorted(named):
        p = named[key]
        value = p.detach().cpu()
        _feed(digest.update, [key, (value.half() if id(p) in matrices else value).float()])
    if model.activation != "quick_gelu":  # whose fingerprints are in files already
        _feed(digest.update, ["activation", model.activation])
    return digest.hexdigest()


def fingerprint_of_learned(state: Mapping[str, Tensor]) -> str:
    """sha256 of a `state_dict`, whatever file it came in."""
    digest = hashlib.sha256()
    _feed(digest.update, dict(state))
    return digest.hexdigest()


def first_difference(stored: Identity, wanted: Identity) -> str | None:
    """The first difference, to follow a file's name in a sentence; None if they are equal."""
    if stored.trainer != wanted.trainer:
        return f"was made with the trainer {stored.trainer}, but it is now {wanted.trainer}"
    know_clips = stored.backbone_sha256 and wanted.backbone_sha256
    before = recorded(_all_settings(stored, wanted))
    now = wanted.settings
    if now.get(ACTIVATION, "auto") == "auto":  # the fingerprints alone say what it stands for
        now = now | {ACTIVATION: before[ACTIVATION]}
    ignored = unread_nodes(before.keys() | now.keys(), wanted.trainer)
    if know_clips:  # one CLIP may be in two files
        ignored |= {BACKBONE}
    for key in sorted((before.keys() | now.keys()) - ignored):
        if before.get(key) != now.get(key):
            return f"was made with {key} {before.get(key)}, but {key} is now {now.get(key)}"
    if stored.classnames and wanted.classnames and stored.classnames != wanted.classnames:
        return _other_classes(stored.classnames, wanted.classnames)
    if stored.draw_sha256 and wanted.draw_sha256 and stored.draw_sha256 != wanted.draw_sha256:
        remedy = " (it is drawn anew at every start, since SEED is -1)"
        return (
            f"was made with other training pictures: the hash of the draw was "
            f"{stored.draw_sha256[:12]} and is now {wanted.draw_sha256[:12]}"
            f"{remedy if now.get('SEED') == -1 else ''}"
        )
    one, two = stored.model_sha256, wanted.model_sha256
    if one and two and one != two:
        return f"is of another model: its hash was {one[:12]} and is now {two[:12]}"
    return other_pictures(stored, wanted) or other_backbone(stored, wanted)


def other_pictures(stored: Identity, wanted: Identity) -> str | None:
    """As `first_difference`, of what pictures hold whose names and labels may be equal."""
    for part, name in _PART_NAMES.items():
        before, now = stored.pictures.get(part), wanted.pictures.get(part)
        if before and now and before != now:
            return (
                f"was made with other {name} pictures: the hash of their content was "
                f"{before[:12]} and is now {now[:12]}"
            )
    return None


def other_backbone(stored: Identity, wanted: Identity) -> str | None:
    """As `first_difference`, of the CLIP alone."""
    one, two = stored.backbone_sha256, wanted.backbone_sha256
    if not one or not two or one == two:
        return None
    activations = [recorded(identity.settings)[ACTIVATION] for identity in (stored, wanted)]
    words = [f" with {a}" if len(set(activations)) > 1 else "" for a in activations]
    before, now = (
        f"{identity.settings[BACKBONE]}{activation} (fingerprint {identity.backbone_sha256[:12]})"
        for identity, activation in zip((stored, wanted), words, strict=True)
    )
    return f"was made with the CLIP {before}, but the CLIP is now {now}"


def _all_settings(stored: Identity, wanted: Identity) -> dict[str, Any]:
    """The stored settings as this version would have written them."""
    known = stored.settings
    if missing := wanted.settings.keys() - known.keys():
        cfg = get_cfg_default()
        extend_cfg(cfg)
        defaults = plain_settings(flatten(cfg))
        known = {key: defaults.get(key) for key in missing} | known
    # What was compared once is no matter where it has become a circumstance.
    known = {key: value for key, value in known.items() if not is_circumstance(key)}
    # A method of one's own that is registered in one of two starts, and not trained.
    others = (k for k in known.keys() - wanted.settings.keys() if re.match(r"TRAINER\.\w+\.", k))
    ignored = {key for key in others if not key.startswith(f"TRAINER.{wanted.trainer}.")}
    return {key: value for key, value in known.items() if key not in ignored}


def _other_classes(before: Sequence[str], now: Sequence[str]) -> str:
    if len(before) != len(now):
        return f"was made with {_classes(before)}, but there are now {_classes(now)}"
    pairs = enumerate(zip(before, now, strict=True))
    label, (one, two) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    return f"was made with the class {one!r} for label {label}, but it is now {two!r}"


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def seal(content: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
    """`content` with its identity, and the digest of both."""
    whole = {**content, KEY: identity._asdict()}
    return whole | {KEY: whole[KEY] | {_DIGEST: _digest(whole)}}


def check_digest(content: Mapping[str, Any], path: str) -> None:
    """That what was read is what was written, whatever file it came in.

    Raises:
        RequestError: it is not, or the identity is none.
    """
    found = content[KEY]
    is_whole = isinstance(found, dict) and all(
        isinstance(found.get(name), kind) for name, kind in _KINDS.items()
    )
    is_whole = is_whole and all(
        isinstance(found.get(name, kind()), kind) for name, kind in _LATER_KINDS.items()
    )
    if not is_whole:
        raise RequestError(f"{path!r} is damaged: its identity is incomplete; remove it")
    try:
        is_same = found[_DIGEST] == _digest(content)
    except RecursionError:  # nothing of ours is nested that deep
        is_same = False
    if not is_same:
        raise RequestError(
            f"{path!r} is damaged: its content does not match its digest; remove it, or put back "
            "a whole copy"
        )


def _digest(content: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    identity = {key: value for key, value in content[KEY].items() if key != _DIGEST}
    _feed(digest.update, {**content, KEY: identity})
    return digest.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    """Feed a hash with a value: each part with its kind and length, dicts in the order of keys."""
    if isinstance(value, Tensor):
        update(f"{value.dtype} {tuple(value.shape)};".encode())
        update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, dict) and not isinstance(value, Record):
        update(f"dict {len(value)};".encode())
        for key in sorted(value, key=lambda key: (type(key).__name__, str(key))):
            _feed(update, key)
            _feed(update, value[key])
    elif isinstance(value, (list, tuple)):  # one kind, as in JSON
        update(f"list {len(value)};".encode())
        for part in value:
            _feed(update, part)
    else:
        text = _text_of(value)
        update(f"{len(text)} {text};".encode())


def _text_of(value: Any) -> str:
    if isinstance(value, float):
        return float.__repr__(value)  # NumPy's float64, a float, has a `repr` of its own
    is_plain = isinstance(value, (bool, int, str, bytes, type(None)))
    return repr(value) if is_plain else "object"  # of a class, which files hold otherwise
