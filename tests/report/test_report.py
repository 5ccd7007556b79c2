"""Cells against figures computed by hand; missing seeds; the page."""

import csv
import json
import re
from pathlib import Path

import pytest

from datasets.catalog import ELEVEN, VARIANTS
from report.paper import NUMBERS
from report.render import to_csv, to_html, to_latex, to_markdown
from report.results import Result, read_results
from report.tables import build_tables
from report_tree import cells, write
from scripts import parse_test_res, report
from sweep.runs import PROTOCOLS
from trainer.checkpoints.identity import Identity, seal

OTHERS = "Base to novel, other data sets"


def test_base_to_novel_equals_figures_by_hand(tmp_path):
    for seed, base, novel in ((1, 90.0, 60.0), (2, 92.0, 66.0), (3, 94.0, 63.0)):
        write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, seed, base)
        write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, seed, novel)
        write(tmp_path, "MMRL", "dtd", "B2N", "base", 16, seed, 80.0)
        write(tmp_path, "MMRL", "dtd", "B2N", "new", 16, seed, 60.0)
    code, found = cells(tmp_path)
    assert code == 0

    def value(row, column, key="mean"):
        return float(found["Base to novel", row, column][key])

    assert value("eurosat", "base") == 92.0
    assert value("eurosat", "base", "spread") == pytest.approx((8 / 3) ** 0.5)
    assert value("eurosat", "H") == pytest.approx(2 * 92 * 63 / 155)
    assert value("average (H of the averages)", "base") == 86.0
    assert value("average (H of the averages)", "H") == pytest.approx(2 * 86 * 61.5 / 147.5)
    h_dtd = 2 * 80 * 60 / 140
    assert value("mean of H", "H") == pytest.approx((2 * 92 * 63 / 155 + h_dtd) / 2)
    assert value("dtd", "base", "published") == 85.67
    assert value("dtd", "base", "difference") == pytest.approx(-5.67)


def test_the_five_eurosat_runs_of_the_published_repository_s_issue_14(tmp_path, capsys):
    base = (95.71, 96.76, 95.76, 97.40, 97.05)
    novel = (69.87, 72.23, 74.90, 72.69, 70.59)
    for seed, (b, n) in enumerate(zip(base, novel, strict=True), start=1):
        write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, seed, b)
        write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, seed, n)
    _, found = cells(tmp_path, "--seeds", "1,2,3,4,5")
    assert found["Base to novel", "eurosat", "base"]["verdict"] == "inside 2 points"
    novel_cell = found["Base to novel", "eurosat", "novel"]
    assert novel_cell["verdict"] == "outside"
    assert float(novel_cell["published"]) == 80.17
    assert float(novel_cell["difference"]) == pytest.approx(-8.114)
    assert float(novel_cell["third_party_rerun"]) == 72.33
    assert "(80.17, -8.11, outside; re-run 72.33)" in capsys.readouterr().out


def test_a_missing_seed_is_listed_and_the_average_withheld(tmp_path, capsys):
    for seed in (1, 2, 3):
        write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, seed, 90.0)
        if seed != 2:
            write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, seed, 70.0)
    code, found = cells(tmp_path)
    assert code == 1
    assert "Base to novel, eurosat, novel: seed 2 is missing" in capsys.readouterr().out
    assert not any("average" in row for _, row, _ in found)
    code, found = cells(tmp_path, "--partial")
    assert code == 1
    assert any("average" in row for _, row, _ in found)


def test_other_protocols(tmp_path):
    for seed in (1, 2, 3):
        for dataset, accuracy in (("imagenet", 72.0), ("eurosat", 50.0), ("dtd", 46.0)):
            write(tmp_path, "MMRL", dataset, "CD", "all", 16, seed, accuracy)
        write(tmp_path, "MMRL", "imagenetv2", "CD", "all", 16, seed, 64.0)
        for shots in (1, 16):
            write(tmp_path, "MMRLpp", "eurosat", "FS", "all", shots, seed, 60.0 + shots)
    code, found = cells(tmp_path)
    assert code == 0
    average = found["Across data sets", "average without imagenet", "accuracy"]
    assert float(average["mean"]) == 48.0
    variant = found["Domain generalisation", "imagenetv2", "accuracy"]
    assert float(variant["published"]) == 64.47
    assert float(found["Few shots", "eurosat", "16 shots"]["mean"]) == 76.0


def test_the_page_is_self_contained(tmp_path):
    for seed in (1, 2, 3):
        folder = write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, seed, 90.0 + seed)
        write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, seed, 72.0)
        lines = (
            f"epoch [{e}/2] batch [5/5] time 1 (1) data 0 (0) loss 1.0 ({2 / e:.4f}) acc 9 (9)\n"
            for e in (1, 2)
        )
        (folder / "log.txt").write_text("".join(lines))
    report.main([str(tmp_path)])
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<svg") == 3  # difference, base and novel, training curves
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert "third parties" in page
    latex = (tmp_path / "report" / "report.tex").read_text()
    assert "eurosat & 92.00 $\\pm$ 0.82 (95.60)" in latex


def test_an_own_data_set_called_average_is_a_point_and_no_average(tmp_path):
    for name in ("average", "leaves"):
        write(tmp_path, "MMRL", name, "B2N", "base", 16, 1, 90.0)
        write(tmp_path, "MMRL", name, "B2N", "new", 16, 1, 72.0)
    _, found = cells(tmp_path, "--seeds", "1")
    assert found[OTHERS, "average", "base"]["kind"] == "data set"
    assert found[OTHERS, "average (H of the averages)", "base"]["kind"] == "average"
    assert ">average<" in drawn_text(tmp_path)


def drawn_text(root):
    """The words of the first picture; matplotlib draws letters, and leaves them as comments."""
    page = (root / "report" / "report.html").read_text()
    words = re.findall(r"<!-- (.*?) -->", page[page.index("<svg") : page.index("</svg>")])
    return "".join(f">{word}<" for word in words)


@pytest.mark.parametrize("moment", range(13))
def test_a_report_at_any_moment_of_a_sweep(moment):
    """The first runs of a sweep of two data sets and two seeds, base and new in turn."""
    runs = [
        Result("MMRL", dataset, True, "B2N", subsample, 16, seed, 80.0, Path())
        for dataset in ("eurosat", "dtd")
        for seed in (1, 2)
        for subsample in ("base", "new")
    ]
    runs += [Result("MMRL", "dtd", True, "FS", "all", n, 1, 80.0, Path()) for n in (1, 2, 4, 8)]
    for partial in (True, False):
        tables = build_tables(runs[:moment], (1, 2), partial)
        pages = [to_markdown(tables), to_csv(tables), to_latex(tables), to_html(tables, [])]
        assert "nan" not in "".join(pages)
        assert bool(tables) == bool(moment)
        is_whole = moment in (0, 4, 8)
        assert any(table.missing for table in tables) != is_whole
        for table in tables:
            text = to_markdown([table])
            assert all(sentence in text for sentence in table.missing)
            assert ("Incomplete: averages" in text) == bool(table.missing)


def test_no_run_yet_is_one_sentence(tmp_path, capsys):
    assert report.main([str(tmp_path), "--partial"]) == 2
    assert capsys.readouterr().err.endswith(f"below {tmp_path}: no run is finished\n")
    assert report.main([str(tmp_path / "nowhere"), "--partial"]) == 2
    assert capsys.readouterr().err == f"error: no folder {tmp_path / 'nowhere'}\n"


def test_h_is_of_the_seeds_that_both_halves_have(tmp_path):
    for seed, base in ((1, 80.0), (2, 90.0), (3, 91.0)):
        write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, seed, base)
    write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, 1, 60.0)
    _, found = cells(tmp_path, "--partial")
    h = found["Base to novel", "eurosat", "H"]
    assert float(h["mean"]) == pytest.approx(2 * 80 * 60 / 140)
    assert h["missing_seeds"] == "2 3"


def test_an_average_over_other_data_sets_than_the_papers_is_not_beside_theirs(tmp_path, capsys):
    for dataset in ELEVEN:
        write(tmp_path, "MMRL", dataset, "B2N", "base", 16, 1, 80.0)
    write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, 1, 60.0)
    _, found = cells(tmp_path, "--seeds", "1", "--partial")
    average = "average (H of the averages)"
    assert found["Base to novel", average, "base"]["published"] == "85.68"
    assert found["Base to novel", average, "novel"]["published"] == ""
    assert found["Base to novel", average, "H"]["mean"] == ""  # of other data sets than base


def test_half_of_a_pair_is_averaged_as_far_as_it_goes(tmp_path):
    write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, 1, 90.0)
    code, found = cells(tmp_path, "--partial")
    assert code == 1
    average = "average (H of the averages)"
    assert found["Base to novel", average, "base"]["mean"] == "90.0"
    assert found["Base to novel", average, "novel"]["mean"] == ""
    assert found["Base to novel", average, "H"]["mean"] == ""


def test_averages_are_over_the_data_sets_that_a_sweep_runs():
    assert set(PROTOCOLS["base_to_novel"].datasets) == set(ELEVEN)
    assert set(PROTOCOLS["few_shot"].datasets) == set(ELEVEN)
    assert set(PROTOCOLS["cross_datasets"].datasets) == {*ELEVEN, *VARIANTS}


def test_every_published_number_cites_what_a_reader_can_follow():
    with open(NUMBERS, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 700
    for row in rows:
        assert re.search(r"Table \d|App\. \w|github [\w-]+/[\w.-]+ \S+\.md", row["source"]), row
        assert not re.search(r"index|\bid \d", row["source"]), row


def test_nothing_to_report_is_said(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert f"no results.json below {tmp_path}" in capsys.readouterr().err


def test_parse_test_res_reads_logs_and_results(tmp_path, capsys):
    for seed, accuracy in ((1, 80.0), (2, 84.0)):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        if seed == 1:
            (folder / "results.json").write_text(json.dumps({"accuracy": accuracy}))
        else:
            (folder / "log.txt").write_text(f"=> result\n* accuracy: {accuracy:.1f}%\n")
    (tmp_path / "seed3").mkdir()
    assert parse_test_res.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "* accuracy: 82.00% +- 2.00%" in text
    assert "MISSING: seed3; the mean below leaves them out" in text
    assert parse_test_res.main([str(tmp_path / "seed3")]) == 1
    (tmp_path / "seed3" / "results.json").write_text("{")
    assert parse_test_res.main([str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert f"Skipped: {tmp_path / 'seed3' / 'results.json'} cannot be read" in text
    assert "* accuracy: 82.00% +- 2.00%" in text


def test_a_figure_that_was_changed_since_is_not_reported(tmp_path):
    folder = write(tmp_path, "MMRL", "eurosat", "B2N", "base", 16, 1, 90.0)
    values = json.loads((folder / "results.json").read_text())
    whole = seal(values, Identity("MMRL", {}))
    (folder / "results.json").write_text(json.dumps(whole | {"accuracy": 99.0}))
    found = read_results(tmp_path)
    assert not found.results
    assert "results.json' is damaged: its content does not match" in found.damaged[0]
