"""Results -> the runs of one table each, and the papers' numbers that are of such runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from statistics import mean
from typing import NamedTuple

from datasets.catalog import CATALOG, VARIANTS
from report.cells import UNTRAINED, Cell, Column, Protocol, Row, RowKind, Table, shots_text
from report.paper import AVERAGED, BACKBONE, SHOTS, Paper, Published
from report.results import Result
from report.text import listed, plain
from trainer.methods import takes_new_classes
from trainer.published_values import METHOD_NAMES

__all__ = ["SOURCE", "Group", "Runs", "grouped", "protocols_of"]

SOURCE = "imagenet"  # of both protocols that evaluate elsewhere
_ORDER = [entry.config for entry in CATALOG]  # the papers'
_BASE_ONLY = {"LinearProbe", "TipAdapter", "TipAdapterF"}  # know no class beyond the trained ones


class Group(NamedTuple):
    """What all runs of one table have in common."""

    protocol: Protocol
    trainer: str
    is_published: bool  # the data sets are the papers'
    shots: int  # 0: the table has a column for each
    backbone: str
    is_validation: bool


def protocols_of(result: Result) -> tuple[Protocol, ...]:
    """The protocols whose tables a result belongs to; none if no protocol has such runs."""
    task, subsample = result.task, result.subsample
    if task == "B2N" and subsample in ("base", "new"):
        return (Protocol.BASE_TO_NOVEL,)
    if task == "FS" and subsample == "all":
        return (Protocol.FEW_SHOT,)
    if task != "CD" or subsample != "all":
        return ()
    if result.is_published and result.dataset == SOURCE:
        return (Protocol.CROSS_DATASETS, Protocol.DOMAINS)
    is_variant = result.is_published and result.dataset in VARIANTS
    return (Protocol.DOMAINS if is_variant else Protocol.CROSS_DATASETS,)


def grouped(results: Sequence[Result]) -> dict[Group, list[Result]]:
    """The runs of each table: by protocol and method, the papers' data sets first."""
    groups: dict[Group, list[Result]] = {}
    for result, backbone in zip(results, _backbones(results), strict=True):
        is_validation = result.split == "val"
        for protocol in protocols_of(result):
            shots = 0 if protocol is Protocol.FEW_SHOT else result.shots
            group = Group(
                protocol, result.trainer, result.is_published, shots, backbone, is_validation
            )
            groups.setdefault(group, []).append(result)
    return {group: groups[group] for group in sorted(groups, key=_place)}


def _place(group: Group) -> tuple[object, ...]:
    methods = list(METHOD_NAMES)
    known = methods.index(group.trainer) if group.trainer in methods else len(methods)
    protocol = list(Protocol).index(group.protocol)
    return not group.is_published, protocol, known, *group[1:]


def _backbones(results: Sequence[Result]) -> list[str]:
    """Each result's CLIP by name: one name for one CLIP, also if it is in two files."""
    named = [str(r.settings.get("MODEL.BACKBONE.NAME", "")) for r in results]
    name_of: dict[str, str] = {}
    for r, name in zip(results, named, strict=True):
        if r.backbone_sha256:
            name_of.setdefault(r.backbone_sha256, name)
    owners = Counter(name_of.values())
    found = []
    for r, name in zip(results, named, strict=True):
        shown = name_of.get(r.backbone_sha256, name)
        mark = f" ({r.backbone_sha256[:12]})" if r.backbone_sha256 and owners[shown] > 1 else ""
        found.append(plain(f"{shown}{mark}"))
    return found


def _has_gaps(rows: Iterable[Row]) -> bool:
    return any(cell.missing for row in rows for cell in row.cells.values())


class Runs(NamedTuple):
    """One table's runs, and what it needs beside them."""

    group: Group
    results: list[Result]
    paper: Paper
    seeds: Sequence[int]
    partial: bool

    @property
    def datasets(self) -> list[str]:
        """Each once, in the papers' order; others by name."""
        if not self.group.is_published:
            return sorted({r.dataset for r in self.results})
        return sorted({r.dataset for r in self.results}, key=_ORDER.index)

    @property
    def is_comparable(self) -> bool:
        """Whether the papers' numbers are of such runs."""
        group = self.group
        shots = {0, SHOTS} if group.trainer != UNTRAINED else {group.shots}
        is_other = group.backbone not in ("", BACKBONE) and not self.has_file
        return (
            group.is_published and group.shots in shots and not is_other and not group.is_validation
        )

    @property
    def has_file(self) -> bool:
        """Whether the CLIP is of a file, which may be the papers' as well as any other."""
        return bool(PurePath(self.group.backbone).suffix)

    @property
    def is_base_only(self) -> bool:
        """Whether new classes are beyond the method, so that none of their runs is missing."""
        return self.group.trainer in _BASE_ONLY and all(r.subsample != "new" for r in self.results)

    def by_seed(self, **wanted: object) -> dict[int, float]:
        """Seed -> accuracy of the runs with these fields."""
        chosen = [r for r in self.results if all(getattr(r, k) == v for k, v in wanted.items())]
        return {r.seed: r.accuracy for r in sorted(chosen, key=lambda r: r.seed)}

    def published(self, dataset: str, column: Column) -> Published:
        """What the papers have of a data set, where it can be compared."""
        if not self.is_comparable:
            return Published()
        trainer, protocol = self.group.trainer, self.group.protocol
        return self.paper.look_up(trainer, protocol, dataset, column.metric)

    def cell(self, dataset: str, column: Column, figures: dict[int, float]) -> Cell:
        """The cell of figures by seed."""
        return Cell(
            tuple(figures.values()), self.lacking(figures), *self.published(dataset, column)
        )

    def lacking(self, figures: Mapping[int, object]) -> tuple[int, ...]:
        """The seeds without a figure."""
        return tuple(seed for seed in self.seeds if seed not in figures)

    def may_average(self, rows: Sequence[Row]) -> bool:
        """Whether an average over the rows is one over the same seeds everywhere."""
        # One own data set is no average of anything.
        is_worth_it = bool(rows) if self.group.is_published else len(rows) > 1
        return is_worth_it and (self.partial or not _has_gaps(rows))

    def average(self, name: str, columns: Sequence[Column], rows: Sequence[Row]) -> Row:
        """The row of means over `rows`, beside the papers' averages."""
        cells = {column: self.average_cell(column, rows) for column in columns}
        return Row(name, RowKind.AVERAGE, cells)

    def average_cell(self, column: Column, rows: Sequence[Row]) -> Cell:
        """The mean over the rows that have a figure; published if they are all of the papers'."""
        means = {row.name: row.cells[column].mean for row in rows}
        known = {name: value for name, value in means.items() if value is not None}
        is_whole = self.is_comparable and set(known) == AVERAGED[self.group.protocol]
        published = Published()
        if is_whole:
            trainer, protocol = self.group.trainer, self.group.protocol
            published = self.paper.of_average(trainer, protocol, column.metric)
        return Cell((mean(known.values()),) if known else (), (), *published)

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
        """The table of these rows, with what its reader has to know."""
        group = self.group
        return Table(
            group.protocol, group.trainer, tuple(columns), tuple(rows), group.shots,
            group.backbone, group.is_published, group.is_validation, self.is_comparable,
            tuple(self.notes(rows)),
        )  # fmt: skip

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """Sentences on what is not there, or is not what it seems."""
        notes = []
        is_paired = self.group.protocol is Protocol.BASE_TO_NOVEL
        if is_paired and not takes_new_classes(self.group.trainer):
            notes.append("New classes, and with them H, are not applicable to this method.")
        if self.group.is_published and not self.is_comparable:
            notes.append(
                f"The papers' numbers are of {shots_text(SHOTS)}, {BACKBONE} and test pictures; "
                "none stands beside these runs."
            )
        elif self.group.is_published and self.has_file:
            notes.append(
                f"The papers' numbers are of {BACKBONE}; whether {self.group.backbone} is that "
                "CLIP is not known here."
            )
        whole = AVERAGED[self.group.protocol]
        absent = [name for name in _ORDER if name in whole - set(self.datasets)]
        if self.group.is_published and absent:
            notes.append(
                f"{len(absent)} of the papers' {len(whole)} data sets have no runs: "
                f"{listed(absent)}. The papers' average is therefore not shown."
            )
        if _has_gaps(rows):
            notes.append(
                "Incomplete: averages are over the runs that are there."
                if self.partial
                else "Incomplete: averages are withheld; --partial shows them over what is there."
            )
        return notes
