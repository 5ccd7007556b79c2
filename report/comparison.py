"""Tables of a method each -> tables with a row for each method and a column for each data set.

Rows stand in parts that are never mixed: run here, published by the authors, re-run by third
parties; and apart from these, methods that learn from unlabelled pictures beyond the shots.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from datasets.catalog import CATALOG
from report.cells import UNTRAINED, Cell, Column, Protocol, RowKind, Table
from report.paper import AVERAGE, AVERAGED, UNLABELLED, Paper
from report.text import listed
from trainer.published_values import METHOD_NAMES

__all__ = ["MEAN", "Block", "Comparison", "Head", "Line", "Part", "Source", "compare"]

_ORDER = [entry.config for entry in CATALOG]


class Source(enum.Enum):
    """Who found the figures, in the order of parts."""

    HERE = "run here"
    AUTHORS = "published by the authors"
    THIRD_PARTIES = "re-run by third parties"


class Head(NamedTuple):
    """A column: a data set, or the average over them."""

    kind: RowKind
    name: str


MEAN = Head(RowKind.AVERAGE, "average")


class Line(NamedTuple):
    """One method's row."""

    trainer: str
    cells: dict[Head, Cell]
    mark: str = ""  # behind the name: published, re-run

    @property
    def name(self) -> str:
        """The method's name for people, with its mark."""
        name = METHOD_NAMES.get(self.trainer, self.trainer)
        return f"{name} ({self.mark})" if self.mark else name

    def shown(self, head: Head) -> str:
        """The figure in percent; empty where there is none."""
        mean = self.cells[head].mean if head in self.cells else None
        return "" if mean is None else f"{mean:.2f}"


class Part(NamedTuple):
    """Rows that may be compared with one another."""

    source: Source
    is_extra: bool  # learnt from unlabelled pictures beyond the shots
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Whose figures these are."""
        extra = ", with extra unlabelled pictures" if self.is_extra else ""
        return f"{self.source.value}{extra}".capitalize()

    def is_best(self, line: Line, head: Head) -> bool:
        """Whether the figure as shown is the highest of two or more in its column."""
        shown = [float(text) for other in self.lines if (text := other.shown(head))]
        mine = line.shown(head)
        return len(shown) > 1 and mine != "" and float(mine) == max(shown)


class Block(NamedTuple):
    """One figure, such as base accuracy, of all methods and data sets."""

    column: Column
    parts: tuple[Part, ...]


class Comparison(NamedTuple):
    """All methods under one protocol and setting."""

    caption: str
    is_published: bool  # the data sets are the papers'
    heads: tuple[Head, ...]
    blocks: tuple[Block, ...]
    seeds: int  # of a figure, unless it says otherwise
    notes: tuple[str, ...]  # sentences that a reader needs

    def seeds_note(self, line: Line, head: Head) -> str:
        """`n=2` where a figure is of other seeds than most; else empty."""
        count = len(line.cells[head].values) if head in line.cells else 0
        is_plain = line.mark or head == MEAN or count in (0, self.seeds)
        return "" if is_plain else f"n={count}"


def compare(tables: Iterable[Table], unlabelled: Collection[str] = ()) -> list[Comparison]:
    """What can be compared among the tables; trainers in `unlabelled` stand apart.

    An average is shown for rows that have every data set, and for published rows if these are the
    papers' data sets: averages over different data sets are never in one column.
    """
    paper = Paper()
    return [_compared(group, paper, {*UNLABELLED, *unlabelled}) for group in _groups(tables)]


def _groups(tables: Iterable[Table]) -> list[list[Table]]:
    """Tables of one protocol and setting; zero-shot ones join those of any number of shots."""
    groups: dict[tuple[object, ...], list[Table]] = {}
    untrained: dict[tuple[object, ...], list[Table]] = {}
    for table in tables:
        place = table.protocol, table.is_published, table.backbone, table.is_validation
        if table.trainer == UNTRAINED:
            untrained.setdefault(place, []).append(table)
        else:
            groups.setdefault((*place, table.shots), []).append(table)
    for key, group in groups.items():
        if fitting := untrained.get(key[:-1]):
            group.insert(0, min(fitting, key=lambda table: table.shots != key[-1]))
    taken = {key[:-1] for key in groups}
    alone = [tables for place, tables in untrained.items() if place not in taken]
    return [*groups.values(), *([table] for tables in alone for table in tables)]


def _compared(tables: Sequence[Table], paper: Paper, unlabelled: Collection[str]) -> Comparison:
    trained = [table for table in tables if table.trainer != UNTRAINED] or list(tables)
    heads = _heads(tables)
    found = dict.fromkeys(column for table in trained for column in table.columns)
    blocks = []
    for column in sorted(found, key=lambda column: (column.shots < 0, column.shots)):
        lines = [Line(table.trainer, _cells(table, column, heads)) for table in tables]
        if all(table.is_comparable for table in trained):
            lines += _published_lines(trained[0].protocol, column, heads, paper)
        blocks.append(Block(column, _parts(lines, unlabelled)))
    has_mean = any(MEAN in ln.cells for b in blocks for part in b.parts for ln in part.lines)
    shown = heads if has_mean else heads[:-1]
    return Comparison(
        ", ".join((trained[0].title, *trained[0].setting)), trained[0].is_published,
        shown, tuple(blocks), _most_seeds(tables), tuple(_notes(tables, trained, shown)),
    )  # fmt: skip


def _heads(tables: Sequence[Table]) -> tuple[Head, ...]:
    """The data sets that any method has, and the average."""
    rows = [row for table in tables for row in table.rows if row.kind is not RowKind.AVERAGE]
    heads = {Head(row.kind, row.name) for row in rows}
    order = {name: place for place, name in enumerate(_ORDER if tables[0].is_published else [])}
    return *sorted(heads, key=lambda head: (order.get(head.name, 0), head.name)), MEAN


def _cells(table: Table, column: Column, heads: Sequence[Head]) -> dict[Head, Cell]:
    """A method's figures; the average only if it is over all data sets."""
    found: dict[Head, Cell] = {}
    for row in table.rows:
        cell = row.cells.get(column)
        if cell is None and table.trainer == UNTRAINED:
            cell = next(iter(row.cells.values()), None)  # of another number of shots, which is none
        if cell is not None and cell.mean is not None:
            # The first average's H is that of the papers: of the average accuracies.
            found.setdefault(
                MEAN if row.kind is RowKind.AVERAGE else Head(row.kind, row.name), cell
            )
    if any(head.kind is RowKind.DATASET and head not in found for head in heads):
        found.pop(MEAN, None)
    return found


def _published_lines(
    protocol: Protocol, column: Column, heads: Sequence[Head], paper: Paper
) -> list[Line]:
    """Other people's rows; their average only if the data sets are those that it is over."""
    averaged = {head.name for head in heads if head.kind is RowKind.DATASET}
    shown = heads if averaged == AVERAGED[protocol] else heads[:-1]
    lines = []
    for origin in paper.origins(protocol):
        cells = {}
        for head in shown:
            name = AVERAGE if head == MEAN else head.name
            figure = paper.figure(origin, protocol, name, column.metric)
            if figure is not None:
                cells[head] = Cell((figure,))
        if cells:
            lines.append(Line(origin.trainer, cells, origin.rerun or "published"))
    return lines


def _parts(lines: Iterable[Line], unlabelled: Collection[str]) -> tuple[Part, ...]:
    groups: dict[tuple[bool, int], list[Line]] = {}
    sources = list(Source)
    for line in sorted(lines, key=_rank):
        is_extra = line.trainer in unlabelled
        groups.setdefault((is_extra, sources.index(_source(line.mark))), []).append(line)
    return tuple(
        Part(sources[place], is_extra, tuple(groups[is_extra, place]))
        for is_extra, place in sorted(groups)
    )


def _source(mark: str) -> Source:
    if not mark:
        return Source.HERE
    return Source.AUTHORS if mark == "published" else Source.THIRD_PARTIES


def _rank(line: Line) -> tuple[int, str]:
    """In METHOD_NAMES' order; then own methods by name, and others in the file's order."""
    known = list(METHOD_NAMES)
    if line.trainer in known:
        return known.index(line.trainer), line.mark
    return len(known), "" if line.mark else line.trainer


def _most_seeds(tables: Sequence[Table]) -> int:
    rows = [row for table in tables for row in table.rows if row.kind is not RowKind.AVERAGE]
    return max((len(cell.values) for row in rows for cell in row.cells.values()), default=0)


def _notes(tables: Sequence[Table], trained: Sequence[Table], heads: Sequence[Head]) -> list[str]:
    """What is true of all trained methods, and then what each method lacks."""
    notes = [note for note in trained[0].notes if all(note in table.notes for table in trained)]
    columns = dict.fromkeys(column for table in trained for column in table.columns)
    for table in tables:
        own = {(row.kind, row.name) for row in table.rows}
        if absent := [head for head in heads if head not in (*own, MEAN)]:
            is_target = any(head.kind is RowKind.DATASET for head in absent)
            names = listed(head.name for head in absent)
            end = ", so it has no average" if is_target and MEAN in heads else ""
            notes.append(f"{table.method} has no runs on {names}{end}.")
        lacking = [c.title for c in columns if table in trained and c not in table.columns]
        if lacking:
            notes.append(f"{table.method} has no figures of this kind: {listed(lacking)}.")
        notes += [f"{table.method}: {sentence}" for sentence in table.missing]
    return notes
