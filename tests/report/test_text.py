"""Names of users' own choice in every format: nothing of them is markup, a formula or a command."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from report.text import in_csv, in_latex, in_markdown, in_plot, plain, say
from report_tree import NASTY, write_pairs
from scripts import report


class Text(HTMLParser):
    """The text of a page outside style and svg, and all its tags."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], set()
        self.feed(re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of data sets, methods and folders with such names."""
    root = tmp_path_factory.mktemp("nasty")
    for number, name in enumerate(NASTY):
        write_pairs(root, "Folder", (1,), dataset_label=name, place=f"run{number}")
    write_pairs(root, "Folder", (1,), trainer="=cmd|'/x' & <b>", dataset_label="x", place="method")
    bad = root / "bad\x1b[31m|<i>\n" / "results.json"
    bad.parent.mkdir()
    bad.write_text("{")
    assert report.main([str(root), "--seeds", "1"]) == 1
    return {path.name: path.read_text(encoding="utf-8") for path in (root / "report").iterdir()}


def test_every_page_is_text_without_control_characters(pages):
    for text in pages.values():
        assert all(c.isprintable() or c == "\n" for c in text)


def test_no_row_of_markdown_has_more_cells_than_its_head(pages):
    tables = [line for line in pages["report.md"].splitlines() if line.startswith("|")]
    assert len(tables) > len(NASTY)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {5}
    assert "<script" not in pages["report.md"]


def test_latex_has_no_character_of_a_name_that_it_would_execute(pages):
    rows = [line for line in pages["report.tex"].splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {3}
    assert r"50\%\_off \& more" in pages["report.tex"]
    assert r"\textbackslash{}x1b{[}31mred" in pages["report.tex"]
    assert pages["report.tex"].count(r"\begin{tabular}") == 2


def test_the_page_has_the_names_as_text_and_no_tag_of_theirs(pages):
    page = Text(pages["report.html"])
    assert page.tags & {"script", "b", "i"} == set()
    for name in NASTY:
        assert plain(name) in page.words


def test_no_cell_of_the_csv_is_a_formula(pages):
    rows = list(csv.reader(io.StringIO(pages["report.csv"])))
    assert {len(row) for row in rows} == {15}
    for row in rows:
        assert not any(cell.startswith(("=", "+", "@", "-")) for cell in row)
    assert "'=1+2" in {row[2] for row in rows}


@pytest.mark.parametrize(
    ("escape", "text", "escaped"),
    [
        (plain, "a\x1b[0m\n", r"a\x1b[0m\n"),
        (in_markdown, "fgvc_aircraft", "fgvc_aircraft"),
        (in_markdown, "_a_ | b", r"\_a\_ \| b"),
        (in_latex, "a_b\\c ± [d", r"a\_b\textbackslash{}c $\pm$ {[}d"),
        (in_csv, "-1", "'-1"),
        (in_csv, "a-1", "a-1"),
        (in_plot, "_a$b", r" _a\$b"),
    ],
)
def test_what_a_format_makes_of_a_name(escape, text, escaped):
    assert escape(text) == escaped


def test_a_console_without_the_letters_shows_escapes():
    stored = io.BytesIO()
    console = io.TextIOWrapper(stored, encoding="ascii", write_through=True)
    say("90.0 ± 0.5, 鳥", console)
    assert stored.getvalue() == rb"90.0 \xb1 0.5, \u9ce5" + b"\n"
