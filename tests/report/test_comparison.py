"""All methods in one table: rows against figures by hand, and what is never mixed."""

import csv
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from datasets.catalog import CATALOG, ELEVEN, VARIANTS
from report.cells import Protocol
from report.comparison import MEAN, Source, compare
from report.comparison_pages import ABBREVIATIONS, comparison_latex, comparison_markdown
from report.paper import NUMBERS, Origin, Paper
from report.results import Result
from report.tables import build_tables
from report_tree import NASTY, write
from scripts import report

PAIR = "Base to novel, 16 shots"
# Base accuracy on every data set, in the order of a paper's table; novel is 10 less.
FIVE = {"ZeroshotCLIP": 60.0, "LinearProbe": 70.0, "TipAdapterF": 75.0, "MMRL": 80.0, "Gated": 85.0}

BASE_ONLY = ("LinearProbe", "TipAdapterF")


def run(trainer, dataset, task, subsample, accuracy, shots=16, seed=1, is_published=True):
    return Result(
        trainer, dataset, is_published, task, subsample, shots, seed, accuracy, Path(trainer)
    )


def compared(results, *, seeds=(1,), partial=False, unlabelled=()):
    """What compares the results, by caption."""
    found = compare(build_tables(results, seeds, partial), unlabelled)
    assert len({c.caption for c in found}) == len(found)
    return {comparison.caption: comparison for comparison in found}


def rows(comparison, title, source=Source.HERE, is_extra=False):
    """The rows of one part of one block: the figures as shown, by method and column."""
    (block,) = [block for block in comparison.blocks if block.column.title == title]
    parts = [p for p in block.parts if (p.source, p.is_extra) == (source, is_extra)]
    return {
        line.name: {head.name: line.shown(head) for head in comparison.heads}
        for part in parts
        for line in part.lines
    }


def five_methods(datasets=ELEVEN):
    found = []
    for trainer, base in FIVE.items():
        for place, dataset in enumerate(datasets):
            found.append(run(trainer, dataset, "B2N", "base", base + place / 10))
            if trainer not in BASE_ONLY:
                found.append(run(trainer, dataset, "B2N", "new", base - 10))
    return found


def test_five_methods_are_the_rows_and_data_sets_the_columns():
    comparison = compared(five_methods())[PAIR]
    assert [head.name for head in comparison.heads] == [*ELEVEN, "average"]
    assert [block.column.title for block in comparison.blocks] == ["base", "novel", "H"]
    base = rows(comparison, "base")
    assert list(base) == [
        "zero-shot CLIP", "linear probe", "Tip-Adapter-F", "MMRL", "Gated",
    ]  # fmt: skip
    assert base["MMRL"]["imagenet"] == "80.00"
    assert base["Gated"]["ucf101"] == "86.00"
    assert base["linear probe"]["average"] == "70.50"
    novel = rows(comparison, "novel")
    assert novel["Gated"]["average"] == "75.00"
    assert set(novel["linear probe"].values()) == {""}
    assert "linear probe has no figures of this kind: novel, H." in comparison.notes


def test_h_of_the_average_is_of_the_average_accuracies():
    pairs = {"eurosat": (90.0, 50.0), "dtd": (60.0, 70.0)}
    results = [
        run("MMRL", name, "B2N", half, figure)
        for name, pair in pairs.items()
        for half, figure in zip(("base", "new"), pair, strict=True)
    ]
    shown = rows(compared(results)[PAIR], "H")["MMRL"]
    assert shown["eurosat"] == f"{2 * 90 * 50 / 140:.2f}"
    assert shown["average"] == f"{2 * 75 * 60 / 135:.2f}"


def test_published_rows_are_marked_and_third_parties_never_among_the_authors():
    comparison = compared(five_methods())[PAIR]
    authors = rows(comparison, "base", Source.AUTHORS)
    others = rows(comparison, "base", Source.THIRD_PARTIES)
    assert authors["MMRL (published)"]["average"] == "85.68"
    assert authors["zero-shot CLIP (published)"]["eurosat"] == "56.48"
    assert others["MMRL (re-run)"]["eurosat"] == "96.10"
    assert others["MMRL++ (re-run, fp32)"]["average"] == ""
    assert all(name.endswith("(published)") for name in authors)
    assert all("(re-run" in name for name in others)
    assert not any(name.startswith("MMRL++") for name in authors)


def test_every_row_whose_source_is_a_re_run_is_one():
    with open(NUMBERS, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert bool(Origin.of(row["method"]).rerun) == ("re-run" in row["source"]), row


def test_extra_unlabelled_pictures_stand_apart():
    comparison = compared(five_methods(), unlabelled=["Gated"])[PAIR]
    assert "Gated" not in rows(comparison, "base")
    assert list(rows(comparison, "base", is_extra=True)) == ["Gated"]
    assert "PromptKD (published)" not in rows(comparison, "H", Source.AUTHORS)
    apart = rows(comparison, "H", Source.AUTHORS, is_extra=True)
    assert apart["PromptKD (published)"]["average"] == "83.73"


def test_the_best_is_bold_within_a_part_ties_included():
    results = [*five_methods(["eurosat"]), run("Twin", "eurosat", "B2N", "base", 85.001)]
    comparison = compared(results)[PAIR]
    here, authors, _ = comparison.blocks[0].parts
    eurosat = comparison.heads[0]
    assert [ln.name for ln in here.lines if here.is_best(ln, eurosat)] == ["Gated", "Twin"]
    assert [ln.name for ln in authors.lines if authors.is_best(ln, eurosat)] == ["MMRL (published)"]
    text = comparison_markdown([comparison])
    assert "| Gated | **85.00** |" in text
    assert "| MMRL | 80.00 |" in text


def test_one_figure_alone_is_not_the_best():
    comparison = compared([run("MMRL", "leaves", "FS", "all", 80.0, is_published=False)])
    (found,) = comparison.values()
    assert "**" not in comparison_markdown([found])


def test_a_method_with_some_data_sets_has_no_average():
    results = [r for r in five_methods() if r.trainer != "Gated" or r.dataset != "sun397"]
    comparison = compared(results)[PAIR]
    base = rows(comparison, "base")
    assert base["Gated"]["sun397"] == base["Gated"]["average"] == ""
    assert base["Gated"]["eurosat"] == "85.90"
    assert base["MMRL"]["average"] == "80.50"
    assert "Gated has no runs on sun397, so it has no average." in comparison.notes


def test_the_papers_average_needs_the_papers_data_sets():
    comparison = compared(five_methods(["eurosat", "dtd"]))[PAIR]
    authors = rows(comparison, "base", Source.AUTHORS)
    assert authors["MMRL (published)"] == {"dtd": "85.67", "eurosat": "95.60", "average": ""}
    assert "ProDA (published)" not in authors  # of which the average alone is known


@pytest.mark.parametrize("partial", [False, True])
def test_other_counts_of_seeds_are_noted(partial):
    results = [
        run(trainer, dataset, "FS", "all", 80.0 + seed, seed=seed)
        for trainer in ("MMRL", "MMRLpp")
        for dataset in ("eurosat", "dtd")
        for seed in (1, 2, 3)
        if (trainer, dataset, seed) != ("MMRL", "dtd", 3)
    ]
    (comparison,) = compared(results, seeds=(1, 2, 3), partial=partial).values()
    text = comparison_markdown([comparison])
    assert "mean over 3 seeds; n: over so many seeds" in text
    average = "81.75" if partial else "-"
    assert f"| MMRL | 81.50 (n=2) | **82.00** | {average} |" in text
    assert "- MMRL: Few shots, dtd, 16 shots: seed 3 is missing" in text


def test_zero_shot_stands_beside_any_number_of_shots():
    results = [run("ZeroshotCLIP", "eurosat", "FS", "all", 48.0, shots=1)]
    results += [run("MMRL", "eurosat", "FS", "all", 60.0 + n, shots=n) for n in (1, 16)]
    results += [
        run("ZeroshotCLIP", "eurosat", "B2N", half, 50.0, shots=16) for half in ("base", "new")
    ]
    results += [run("MMRL", "eurosat", "B2N", half, 70.0, shots=4) for half in ("base", "new")]
    found = compared(results)
    shots = found["Few shots"]
    assert [block.column.title for block in shots.blocks] == ["1 shot", "16 shots"]
    assert rows(shots, "16 shots")["zero-shot CLIP"]["eurosat"] == "48.00"
    four = found["Base to novel, 4 shots"]
    assert list(rows(four, "base")) == ["zero-shot CLIP", "MMRL"]
    assert not rows(four, "base", Source.AUTHORS)  # which are of 16 shots


def test_the_source_stands_first_and_outside_the_average():
    results = [run("MMRL", name, "CD", "all", 50.0) for name in (*ELEVEN[1:], *VARIANTS)]
    results.append(run("MMRL", "imagenet", "CD", "all", 72.0))
    found = compared(results)
    across = rows(found["Across data sets, 16 shots"], "accuracy")["MMRL"]
    assert next(iter(across)) == "imagenet"
    assert (across["imagenet"], across["average"]) == ("72.00", "50.00")
    domains = found["Domain generalisation, 16 shots"]
    assert [head.name for head in domains.heads] == ["imagenet", *VARIANTS, MEAN.name]
    authors = rows(domains, "accuracy", Source.AUTHORS)["MMRL (published)"]
    assert authors["average"] == "60.59"


def test_every_data_set_of_the_papers_has_an_abbreviation_of_its_own():
    assert set(ABBREVIATIONS) == {entry.config for entry in CATALOG}
    assert len(set(ABBREVIATIONS.values())) == len(ABBREVIATIONS)


def test_averages_of_few_shots_are_third_parties_alone():
    origins = Paper().origins(Protocol.FEW_SHOT)
    assert Origin("LinearProbe", "re-run") in origins
    assert all(origin.rerun for origin in origins)


# From here on by the program.


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of published data sets, and of own ones and methods with names of every kind."""
    root = tmp_path_factory.mktemp("compared")
    for trainer, base in FIVE.items():
        for dataset in ("eurosat", "dtd"):
            for half, accuracy in (("base", base), ("new", base - 10)):
                if half == "base" or trainer not in BASE_ONLY:
                    write(root, trainer, dataset, "B2N", half, 16, 1, accuracy)
    written = [name for name in NASTY if name.isprintable() or name.isascii()]
    for place, name in enumerate(written):
        fields = {"dataset_label": name, "place": f"run{place}"}
        for trainer in ("MMRL", "=a_b & <c> 50%"):
            write(root, trainer, "Folder", "FS", "all", 16, 1, 80.0, **fields)
    args = [str(root), "--compare", "--seeds", "1", "--unlabelled", "Gated"]
    assert report.main(args) == 0  # novel accuracy of the probe and the adapter is not missing
    return {path.name: path.read_text(encoding="utf-8") for path in (root / "report").iterdir()}


def test_the_csv_has_a_row_for_a_method_and_figure(pages):
    found = list(csv.DictReader(io.StringIO(pages["compare.csv"])))
    (mmrl,) = [r for r in found if (r["figure"], r["method"]) == ("novel", "MMRL")]
    assert (mmrl["rows"], mmrl["seeds"], mmrl["eurosat"], mmrl["average"]) == (
        "Run here", "1", "70.0", "70.0",
    )  # fmt: skip
    (apart,) = [r for r in found if (r["figure"], r["method"]) == ("base", "Gated")]
    assert apart["rows"] == "Run here, with extra unlabelled pictures"
    assert not any(value.startswith(("=", "+", "@")) for row in found for value in row.values())


def test_the_page_leads_with_the_difference_to_the_paper(pages):
    page = pages["report.html"]
    first = html.unescape(page[page.index("<figure>") : page.index("</figure>")])
    assert "difference to the number that the method's authors published" in first
    assert "Without such a number: Gated, Tip-Adapter-F, linear probe" in first
    assert page.index("<figure>") < page.index("<h2>")
    assert page.count("all methods</h2>") == 2


def tabulars(text):
    """The column count and the rows of every table."""
    pattern = r"\\begin\{tabular\}\{l(?:\*\{(\d+)\}\{r\}|(r+))\}(.*?)\\end\{tabular\}"
    for count, letters, body in re.findall(pattern, text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        yield int(count or len(letters)) + 1, lines


@pytest.mark.parametrize("name", ["compare.tex", "report.tex"])
def test_latex_rows_have_as_many_cells_as_columns(name, pages):
    found = list(tabulars(pages[name]))
    assert found
    for columns, lines in found:
        for line in lines:
            (spanned,) = re.findall(r"\\multicolumn\{(\d+)\}", line) or [1]
            assert len(re.findall(r"(?<!\\)&", line)) + int(spanned) == columns, line


@pytest.mark.parametrize("name", ["compare.tex", "report.tex"])
def test_latex_has_commands_of_ours_alone(name, pages):
    lines = [line for line in pages[name].splitlines() if not line.startswith("%")]
    text = re.sub(r"\\[&%$#_{}\\]", "", "\n".join(lines).replace("{%\n", "{\n"))
    assert not re.search(r"[#_^~%]", text)
    assert text.count("{") == text.count("}")
    known = (
        "begin end centering caption resizebox ifdim width textwidth else fi toprule midrule "
        "bottomrule hline multicolumn emph textbf textsuperscript par footnotesize pm "
        "textbackslash textasciitilde textless textgreater textbar"
    ).split()
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= set(known)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a LaTeX")
def test_latex_compiles(pages, tmp_path):
    for name in ("compare.tex", "report.tex"):
        (tmp_path / name).write_text(pages[name], encoding="utf-8")
    document = (
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
        "\\input{compare}\\clearpage\\input{report}\\end{document}"
    )
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 0


def test_a_request_to_set_apart_what_is_not_there_is_refused(tmp_path, capsys):
    write(tmp_path, "MMRL", "eurosat", "FS", "all", 16, 1, 80.0)
    assert report.main([str(tmp_path), "--unlabelled", "MMRL"]) == 2
    assert "add --compare" in capsys.readouterr().err
    assert report.main([str(tmp_path), "--compare", "--unlabelled", "Other"]) == 2
    assert "--unlabelled names Other; the runs' trainers are MMRL" in capsys.readouterr().err


def test_latex_of_no_comparison_is_empty_of_tables():
    assert "tabular" not in comparison_latex([])
