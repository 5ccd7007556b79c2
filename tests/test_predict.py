"""What predict.py refuses, or says, before it reads a picture."""

import pytest
from PIL import Image

import predict
from trainer.class_names import read_classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names.txt", r"No file of class names at 'names\.txt'"),
        ("./names", r"No file of class names"),
        (",,", r"',,' names no class"),
        ("", r"names no class"),
        ("forest,river,Forest", r"'forest' and 'Forest', which CLIP reads alike"),
        ("sea_lake,sea  lake", r"'sea_lake' and 'sea  lake'"),
    ],
)
def test_bad_class_names_are_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_classes(text)


def test_class_names_from_words_and_from_a_file_with_a_mark(tmp_path):
    assert read_classes("a, b ,c") == ["a", "b", "c"]
    assert read_classes("F/A-18,Boeing 717") == ["F/A-18", "Boeing 717"]
    path = tmp_path / "names.txt"
    path.write_bytes("forest\r\n\r\nriver\r\n".encode("utf-8-sig"))
    assert read_classes(str(path)) == ["forest", "river"]
    path.write_text("forest\nriver", encoding="utf-16")
    with pytest.raises(ValueError, match=r"is UTF-16 text"):
        read_classes(str(path))


@pytest.mark.parametrize("option", [["--top", "0"], ["--batch-size", "-1"], ["--device", "x"]])
def test_options_out_of_range_are_refused(option, capsys):
    with pytest.raises(SystemExit) as left:
        predict.main(["run", "picture.png", *option])
    assert left.value.code == 2
    assert repr(option[1]) in capsys.readouterr().err


def test_outputs_are_checked_before_the_model_is_loaded(tmp_path, capsys):
    words = [str(tmp_path / "no run"), str(tmp_path), "--csv"]
    assert predict.main([*words, str(tmp_path / "absent" / "out.csv")]) == 2
    assert "out.csv: there is no such file or folder" in capsys.readouterr().err
    assert predict.main([*words, str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    out = str(tmp_path / "out")
    assert predict.main([*words, out, "--json", out]) == 2
    assert "need a file each" in capsys.readouterr().err


def test_files_that_are_no_pictures_are_counted(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "deep" / "a.jp2")
    (tmp_path / "b.heic").write_bytes(b"")
    assert predict.find_pictures([str(tmp_path)]) == [str(tmp_path / "deep" / "a.jp2")]
    assert "1 files ignored: .heic 1" in capsys.readouterr().out
