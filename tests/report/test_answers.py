"""What predict.py prints of many pictures."""

import predict
from predict import Row
from report.answers import least_sure, summary

ROWS = [
    Row("a.png", ["river", "forest"], [0.9, 0.1], "river"),
    Row("b.png", ["river", "forest"], [0.6, 0.4], "forest"),
    Row("c.png", ["forest", "river"], [0.8, 0.2], "forest"),
    Row("d.png", ["river", "forest"], [0.7, 0.3], ""),
]


def test_classes_are_counted_and_compared_with_their_folders():
    lines = [line.split() for line in summary(ROWS).splitlines()]
    assert lines[2:4] == [["river", "3", "1", "1"], ["forest", "1", "2", "1"]]
    assert lines[4][:5] == ["accuracy", "66.7%:", "2", "of", "3"]  # d.png is in no such folder


def test_without_known_classes_there_is_no_accuracy():
    rows = [row._replace(truth="") for row in ROWS]
    lines = [line.split() for line in summary(rows).splitlines()]
    assert lines == [["class", "pictures"], lines[1], ["river", "3"], ["forest", "1"]]


def test_a_class_that_no_picture_got_is_listed():
    rows = [Row("a.png", ["1e3"], [1.0], "7")]
    assert [line.split()[:3] for line in summary(rows).splitlines()[2:4]] == [
        ["1e3", "1", "0"], ["7", "0", "1"],
    ]  # fmt: skip


def test_the_least_sure_come_first():
    assert [row.path for row in least_sure(ROWS, 2)] == ["b.png", "d.png"]


def test_every_picture_is_printed_where_that_is_asked_for_or_they_are_few(capsys):
    many = [ROWS[0]._replace(path=f"{number}.png") for number in range(20)]
    predict.print_answers(many, every=True)
    assert capsys.readouterr().out.count(".png") == 20
    predict.print_answers(many, every=False)
    printed = capsys.readouterr().out
    assert printed.startswith("The 5 least sure of 20 pictures (--all prints every one):\n")
    assert printed.count(".png") == 5 and "\naccuracy 100.0%: 20 of 20" in printed
    predict.print_answers(ROWS, every=False)
    printed = capsys.readouterr().out
    assert "least sure" not in printed and printed.count(".png") == 4
