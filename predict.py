"""Classify pictures of your own with a trained run.

    python predict.py output/eurosat/seed1 pictures/ --html page.html
    python predict.py eurosat.safetensors "photos/*.jpg" --classes forest,river --top 3

Pictures are files, folders or globs. The classes are the run's, unless --classes names others:
trained classes are read from the fused logits, others from the class feature, all in one softmax.
A picture that cannot be read is named and skipped, and the exit code is then 1. Printed are the
pictures per class, the accuracy if the folders bear the classes' names, and the pictures that the
model is least sure of; --all prints every picture.
"""

import argparse
import csv
import glob
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dassl.errors import RequestError, in_one_sentence
from dassl.whole_files import check_writable, write_text
from interpreter import require_torch
from options import Parser, add_module_options, whole_number

if __name__ == "__main__":
    require_torch()


class Row(NamedTuple):
    """The prediction for one picture."""

    path: str
    names: list[str]
    probabilities: list[float]
    truth: str  # from the folder's name; empty if that is not a class


def build_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "model", metavar="RUN", help="run folder, checkpoint, .safetensors or hf:USER/REPO"
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders, globs")
    add_module_options(parser.add_argument_group("of your own"), "trainer")
    what = parser.add_argument_group("classes")
    what.add_argument(
        "--classes", metavar="A,B|FILE", help="class names, or a file of them, one per line"
    )
    what.add_argument(
        "--trained",
        metavar="A,B|FILE",
        help="the classes that were trained, if the file does not record them",
    )
    what.add_argument("--template", metavar="TEXT", help='prompt, e.g. "a photo of a {}."')
    what.add_argument("--backbone", metavar="NAME|FILE", help="CLIP (default: the run's)")
    what.add_argument(
        "--dataset", metavar="NAME", help="data set of a published checkpoint, e.g. EuroSAT"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--top",
        type=whole_number(1),
        default=5,
        metavar="N",
        help="classes per picture (default: 5)",
    )
    output.add_argument("--all", action="store_true", help="print a line for every picture")
    output.add_argument("--csv", type=Path, metavar="FILE", help="write a table")
    output.add_argument("--json", type=Path, metavar="FILE", help="write a list of objects")
    output.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained page")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--batch-size", type=whole_number(1), default=32, metavar="N", help="pictures (default: 32)"
    )
    how.add_argument(
        "--device", type=_device, metavar="cpu|cuda", help="default: a GPU if there is one"
    )
    return parser


def _device(text: str) -> str:
    import torch

    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if text not in known and not (text == "cuda" and torch.cuda.is_available()):
        raise argparse.ArgumentTypeError(f"{text!r} is not here; choose from {', '.join(known)}")
    return text


def find_pictures(words: list[str]) -> list[str]:
    """The files that the words name, directly, by folder (at any depth) or by glob; sorted.

    Raises:
        FileNotFoundError: a word names nothing.
    """
    from dassl.utils.pictures import Ignored, own_suffixes

    found: set[str] = set()
    ignored = Ignored()
    for word in words:
        path = Path(word)
        if path.is_dir():
            files = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
            found |= {str(p) for p in files if p.suffix.lower() in own_suffixes()}
            ignored.add(p.name for p in files if p.suffix.lower() not in own_suffixes())
        elif path.is_file():
            found.add(word)
        elif matches := glob.glob(word, recursive=True):
            found |= {match for match in matches if Path(match).is_file()}
        else:
            raise FileNotFoundError(f"No picture at {word!r}")
    if not found:
        raise FileNotFoundError(f"No pictures in {', '.join(words)}{ignored.brackets()}")
    if ignored:
        print(ignored)
    return sorted(found)


def check_outputs(paths: list[Path]) -> None:
    """Refuse outputs that cannot be written, before any picture is read.

    Raises:
        RequestError: one is a folder, or is named twice.
        OSError: one cannot be written.
    """
    for path in paths:
        check_writable(path)
    if len({path.absolute() for path in paths}) < len(paths):
        raise RequestError("--csv, --json and --html need a file each")


def classify(
    model: Any, paths: list[str], top: int, batch_size: int, unreadable: list[str]
) -> Iterator[Row]:
    """Yield answers in order, batch by batch; paths that cannot be read go into `unreadable`."""
    from tqdm import tqdm

    from dassl.utils import read_image

    known = {_plain(name): name for name in model.classnames}
    for start in tqdm(range(0, len(paths), batch_size), desc="predict", unit="batch"):
        images, read = [], []
        for path in paths[start : start + batch_size]:
            try:
                images.append(read_image(path))
                read.append(path)
            except (RequestError, FileNotFoundError) as error:
                print(f"skipped: {error}", file=sys.stderr)
                unreadable.append(path)
        answers = model.predict(images, top) if images else []
        for path, answer in zip(read, answers, strict=True):
            truth = known.get(_plain(Path(path).resolve().parent.name), "")
            yield Row(path, answer.names, answer.probabilities, truth)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def print_table(rows: list[Row]) -> None:
    """Print a line per picture, with the true class if its folder is named after one."""
    from tabulate import tabulate

    table = []
    for row in rows:
        answers = [f"{n} {100 * p:.1f}%" for n, p in zip(row.names, row.probabilities, strict=True)]
        verdict = "" if not row.truth else "right" if row.truth == row.names[0] else row.truth
        table.append([row.path, *answers[:3], verdict])
    print(tabulate(table, headers=["picture", "1", "2", "3", "truth"][: len(table[0])]))


def print_answers(rows: list[Row], every: bool) -> None:
    """Print every picture, or else those that the model is least sure of; then the summary."""
    from report.answers import least_sure, summary

    shown = rows if every else least_sure(rows)
    if len(shown) < len(rows):
        print(f"The {len(shown)} least sure of {len(rows)} pictures (--all prints every one):")
    print_table(shown)
    print(f"\n{summary(rows)}")


def to_csv(rows: list[Row]) -> str:
    """A row per picture: path, truth, then name and probability of each of the best."""
    top = len(rows[0].names)
    header = ["path", "truth"]
    for rank in range(1, top + 1):
        header += [f"class_{rank}", f"probability_{rank}"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        pairs = zip(row.names, row.probabilities, strict=True)
        writer.writerow([row.path, row.truth, *(x for n, p in pairs for x in (n, f"{p:.8f}"))])
    return text.getvalue()


def to_json(rows: list[Row]) -> str:
    """A list of objects, one per picture."""
    return json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False) + "\n"


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Classify the pictures and write what was asked for; the exit code."""
    args = build_parser().parse_args(argv)
    check_outputs([path for path in (args.csv, args.json, args.html) if path])
    paths = find_pictures(args.pictures)
    from dassl.utils.pictures import turned_note
    from trainer import load
    from trainer.class_names import read_classes

    classes, trained = read_classes(args.classes), read_classes(args.trained, "--trained")
    how = (args.backbone, args.device, args.template, args.dataset)
    model = load(args.model, classes, *how, trained=trained, trainer_module=args.trainer_module)
    if note := turned_note(paths):
        print(note)
    unreadable: list[str] = []
    rows = list(classify(model, paths, args.top, args.batch_size, unreadable))
    if rows:
        print_answers(rows, args.all)
        print(f"{len(model.classnames)} classes, read from the {model.reads}")
    if rows and args.csv:
        write_text(args.csv, to_csv(rows))
    if args.json:
        write_text(args.json, to_json(rows))
    if args.html:
        from report.gallery import to_page

        write_text(args.html, to_page(rows, model.reads))
    if unreadable:
        print(f"{len(unreadable)} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    raise SystemExit(main())
