"""A CSV of own pictures: `path,label[,split]` -> (path, label, part) of every row, checked."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError, read_text

__all__ = ["PARTS", "Row", "check_spelling", "read_csv"]

PARTS = ("train", "val", "test")


class Row(NamedTuple):
    """One picture of a list."""

    path: str
    label: str
    part: str  # of PARTS; empty if the list has no split
    where: str  # the line, or the folder, for messages


def read_csv(path: Path, folder: Path) -> list[Row]:
    """The rows of a list, paths below `folder`.

    Raises:
        FileNotFoundError: there is no such file.
        RequestError: with the line: a column or value is missing, a split is none of train, val,
            test or is given for some rows only, labels differ in case or blanks alone, or a
            picture has two labels or parts.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r} (DATASET.CSV)")
    try:
        rows = list(_rows(path, folder))
    except csv.Error as error:
        raise RequestError(f"{str(path)!r} is not a CSV file: {error}") from error
    _check_parts(rows)
    check_spelling({row.label: row.where for row in rows})
    _check_repeats(rows)
    return rows


def _rows(path: Path, folder: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    if missing := {"path", "label"} - set(reader.fieldnames or ()):
        raise RequestError(
            f"{str(path)!r} lacks the column {sorted(missing)}; its first line must be "
            "path,label or path,label,split, with commas"
        )
    columns = len(reader.fieldnames or ())
    for values in reader:
        where = f"{str(path)!r}, line {reader.line_num}"
        if None in values or None in values.values():
            raise RequestError(
                f"{where} has not {columns} columns as the first line has; quote what has commas"
            )
        for column in ("path", "label"):
            if not values[column].strip():
                raise RequestError(f"{where}: the {column} is empty; complete or remove the line")
        part = (values.get("split") or "").strip()
        if part and part not in PARTS:
            raise RequestError(f"{where}: split {part!r} is not in {PARTS}")
        picture = os.path.normpath(folder / values["path"].strip())
        yield Row(picture, values["label"], part, where)


def _check_parts(rows: list[Row]) -> None:
    unmarked = next((row for row in rows if not row.part), None)
    marked = next((row for row in rows if row.part), None)
    if marked and unmarked:
        raise RequestError(
            f"{unmarked.where} has no split, but other lines have one ({marked.part!r}); give "
            "every line a split, or none"
        )


def check_spelling(labels: dict[str, str]) -> None:
    """Refuse labels (label -> where it stands) that differ in case or blanks alone.

    Raises:
        RequestError: quotes two of them with their places.
    """
    seen: dict[str, str] = {}
    for label, where in labels.items():
        if not label.strip(" _"):
            raise RequestError(f"{where}: a class needs a name, got {label!r}")
        twin = seen.setdefault(" ".join(label.casefold().split()), label)
        if twin != label or label != label.strip():
            other = "" if twin == label else f" and {twin!r} ({labels[twin]})"
            raise RequestError(
                f"{where}: the label {label!r}{other} has blanks or capitals that make two classes "
                "of one; write a class in one way"
            )


def _check_repeats(rows: list[Row]) -> None:
    """Refuse a picture with two labels or parts; say how many lines merely repeat one."""
    seen: dict[str, Row] = {}
    repeats = 0
    for row in rows:
        first = seen.setdefault(row.path, row)
        for kind, one, two in (("label", first.label, row.label), ("split", first.part, row.part)):
            if one != two:
                raise RequestError(
                    f"{row.where}: {row.path!r} has the {kind} {two!r}, and {one!r} in "
                    f"{first.where.rpartition(', ')[2]}; a picture has one"
                )
        repeats += first is not row
    if repeats:
        print(f"{repeats} lines repeat a picture, which then counts more than once")
