"""The README's table of speed, made from benchmarks/results/*.csv.

python -m benchmarks.table            # print it
python -m benchmarks.table --write    # put it into README.md
"""

import csv
import sys
from pathlib import Path

from dassl.errors import in_one_sentence

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- speed: made by python -m benchmarks.table -->\n", "<!-- speed: end -->\n"


def make_table() -> str:
    """One Markdown table per device: MMRL and MMRL++ in training and evaluation."""
    return "\n".join(
        _table_of(path) for path in sorted(RESULTS.glob("*.csv")) if path.name != "pipeline.csv"
    )


def _table_of(path: Path) -> str:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [
        f"{rows[0]['device']}, torch {rows[0]['torch']}, float32:\n",
        "| | classes x batch | plain, s | fast, s | times faster | step memory, GiB | GFLOP |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        name = f"{r['method'].replace('pp', '++')}, {r['mode']}"
        memory = " → ".join(x for x in (r["plain_gib"], r["fast_gib"]) if x)
        work = " → ".join(x for x in (r["plain_gflop"], r["fast_gflop"]) if x)
        cells = [name, f"{r['classes']} x {r['batch']}", r["plain_seconds"] or "does not fit"]
        cells += [r["fast_seconds"], r["ratio"] or "", memory, work]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def in_readme() -> str:
    """The part of README.md that this program writes."""
    text = README.read_text()
    return text[text.index(START) + len(START) : text.index(END)]


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Print the table, or write it."""
    table = make_table()
    if "--write" in (sys.argv[1:] if argv is None else argv):
        README.write_text(README.read_text().replace(START + in_readme(), START + table))
    else:
        print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
