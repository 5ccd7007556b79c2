"""Which results may stand in one report: one a cell and seed, and all of a cell made alike.

What cannot stand in it is named: refused with what it collides with, or left out with the reason.
"""

import functools
import reprlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from dassl.config import get_cfg_default
from report.cells import shots_text
from report.results import Found, Result
from report.runs import protocols_of
from report.text import listed, plain
from trainer.checkpoints.identity import plain_settings
from trainer.checkpoints.settings import recorded
from trainer.config import extend_cfg, flatten
from trainer.published_values import METHOD_NAMES

__all__ = ["left_out", "refusals", "usable"]

_BACKBONE = "MODEL.BACKBONE.NAME"
_SHOWN = 10  # sentences; a copied folder brings one for every run


def usable(results: Iterable[Result], seeds: Sequence[int]) -> list[Result]:
    """The results that some table has a place for."""
    return [r for r in results if r.seed in seeds and protocols_of(r)]


def refusals(results: Sequence[Result]) -> list[str]:
    """A sentence for each two results that no report can hold together; empty if all is well."""
    return _first(_twins(results) or _mixed_cells(results))


def left_out(found: Found, seeds: Sequence[int]) -> list[str]:
    """A sentence for each file and run that no table has."""
    sentences = _first([f"Skipped: {sentence}" for sentence in found.damaged])
    sentences += _first(
        [f"Left out: {plain(str(path))} was not evaluated" for path in found.untested]
    )
    sentences += _first(
        [
            f"Left out: {plain(str(r.folder))} is of TASK {plain(r.task)} and {plain(r.subsample)} "
            "classes, and no table is: B2N takes base and new classes, FS and CD take all"
            for r in found.results
            if not protocols_of(r)
        ]
    )
    others = [r.seed for r in found.results if r.seed not in seeds and protocols_of(r)]
    if others:
        wanted = sorted({*seeds, *others})
        sentences.append(
            f"Left out: {len(others)} runs of seeds that are not asked for "
            f"({listed(sorted(set(others)))}); --seeds {','.join(map(str, wanted))} takes them in"
        )
    return sentences


def _first(sentences: list[str]) -> list[str]:
    more = len(sentences) - _SHOWN
    return sentences[:_SHOWN] + ([f"... and {more} more of this kind"] if more > 0 else [])


def _twins(results: Iterable[Result]) -> list[str]:
    """Two runs of one cell and seed, whether their settings differ or not."""
    sentences = []
    for group in _grouped(results, lambda r: (*_cell(r), r.seed)):
        one = group[0]
        for two in group[1:]:
            unlike = _difference(one, two)
            sentences.append(
                f"{_pair(one, two)} are two runs of one cell and seed: {_describe(one)}, seed "
                f"{one.seed}{f'; {unlike}' if unlike else ''}; remove one of them, or report a "
                f"subfolder that holds one{_label_hint(one)}"
            )
    return sentences


def _mixed_cells(results: Iterable[Result]) -> list[str]:
    """Seeds of one cell that were not made alike; a sentence for the first two of each cell."""
    sentences = []
    for group in _grouped(results, _cell):
        for two in group[1:]:
            if unlike := _difference(group[0], two):
                sentences.append(
                    f"{_pair(group[0], two)} are seeds {group[0].seed} and {two.seed} of one cell "
                    f"({_describe(two)}), but {unlike}; they are not averaged: remove one of them, "
                    f"or report a subfolder of runs made alike{_label_hint(two)}"
                )
                break
    return sentences


def _grouped(results: Iterable[Result], key: Any) -> list[list[Result]]:
    groups: dict[Hashable, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.values())


def _cell(result: Result) -> tuple[Hashable, ...]:
    r = result
    return r.trainer, r.task, r.subsample, r.dataset, r.is_published, r.shots


def _describe(result: Result) -> str:
    method = METHOD_NAMES.get(result.trainer, result.trainer)
    classes = f"{result.subsample} classes"
    words = (method, result.task, result.dataset, classes, shots_text(result.shots))
    return ", ".join(words)


def _pair(one: Result, two: Result) -> str:
    return f"{plain(str(one.folder))} and {plain(str(two.folder))}"


def _label_hint(result: Result) -> str:
    if result.is_published:
        return ""
    return "; DATASET.LABEL tells own data sets of one name apart when they are run"


def _difference(one: Result, two: Result) -> str | None:
    """The first difference that is not the seed's; None if there is none, or none is recorded."""
    if one.settings and two.settings:
        # A version that did not know a key used what is now its default.
        before, now = (recorded({**_defaults(), **r.settings}) for r in (one, two))
        for key in sorted(before.keys() & now.keys() - {"SEED", _BACKBONE}):
            if before[key] != now[key]:
                return _unlike(key, before[key], now[key])
    return (
        _other("the number of evaluated pictures", one.total, two.total)
        or _other("TEST.SPLIT", one.split, two.split)
        or _other("the list of class names", one.classnames, two.classnames)
        or _other_backbone(one, two)
    )


def _other(key: str, one: object, two: object) -> str | None:
    is_known = one is not None and two is not None
    return _unlike(key, one, two) if is_known and one != two else None


def _other_backbone(one: Result, two: Result) -> str | None:
    names = one.settings.get(_BACKBONE), two.settings.get(_BACKBONE)
    if one.backbone_sha256 and two.backbone_sha256:  # one CLIP may be in two files
        if one.backbone_sha256 == two.backbone_sha256:
            return None
        if names[0] == names[1]:
            shas = one.backbone_sha256[:12], two.backbone_sha256[:12]
            return _unlike(f"the fingerprint of {names[0]}", *shas)
    return _unlike(_BACKBONE, *names) if all(names) and names[0] != names[1] else None


def _unlike(key: str, one: object, two: object) -> str:
    values = (reprlib.repr(value) if isinstance(value, list) else value for value in (one, two))
    return plain("{} is {} in the first and {} in the second".format(key, *values))


@functools.cache
def _defaults() -> dict[str, Any]:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return plain_settings(flatten(cfg))
