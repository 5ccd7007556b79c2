"""Downloads from a local server that plays the remote."""

import functools
import hashlib
import http.server
import tarfile
import threading
import zipfile

import pytest

from datasets import download
from scripts.download_data import main


@pytest.fixture
def remote(tmp_path):
    folder = tmp_path / "remote"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def make_tar(path, inside, names):
    source = path.parent / "source"
    for name in names:
        (source / inside / name).parent.mkdir(parents=True, exist_ok=True)
        (source / inside / name).write_text(name)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, ".")
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_archive_and_split_file_come_to_their_places(remote, tmp_path):
    folder, url = remote
    md5 = make_tar(folder / "dtd-r1.0.1.tar.gz", "dtd/images", ["banded/1.jpg", "dotted/1.jpg"])
    (folder / "split_zhou_DescribableTextures.json").write_text("{}")
    root = tmp_path / "data"
    assert download.download_dataset(root, "dtd", mirror=url, md5=md5) == []
    found = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert found == [
        "dtd/images/banded/1.jpg", "dtd/images/dotted/1.jpg",
        "dtd/split_zhou_DescribableTextures.json",
    ]  # fmt: skip
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    assert download.download_dataset(root, "dtd", mirror=url) == []  # nothing is fetched again


def test_an_archive_within_an_archive(remote, tmp_path):
    folder, url = remote
    make_tar(folder / "101_ObjectCategories.tar.gz", "101_ObjectCategories", ["ant/1.jpg"])
    with zipfile.ZipFile(folder / "caltech-101.zip", "w") as archive:
        archive.write(
            folder / "101_ObjectCategories.tar.gz", "caltech-101/101_ObjectCategories.tar.gz"
        )
    (folder / "split_zhou_Caltech101.json").write_text("{}")
    download.download_dataset(tmp_path / "data", "caltech101", mirror=url, md5="")
    assert (tmp_path / "data/caltech-101/101_ObjectCategories/ant/1.jpg").is_file()


def test_an_archive_s_content_goes_beside_it(remote, tmp_path):
    folder, url = remote
    names = ["variants.txt", "images/1.jpg"]
    make_tar(folder / "fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b/data", names)
    download.download_dataset(tmp_path / "data", "fgvc_aircraft", mirror=url)
    assert (tmp_path / "data/fgvc_aircraft/images/1.jpg").is_file()


def test_a_wrong_checksum_removes_the_file(remote, tmp_path, capsys):
    folder, url = remote
    make_tar(folder / "dtd-r1.0.1.tar.gz", "dtd/images", ["banded/1.jpg"])
    (folder / "split_zhou_DescribableTextures.json").write_text("{}")
    assert main(["--root", str(tmp_path / "data"), "dtd", "--mirror", url]) == 1
    assert "fff73e5086ae6bdbea199a49dfb8a4c1; it was removed" in capsys.readouterr().err
    assert not (tmp_path / "data/dtd/dtd-r1.0.1.tar.gz").exists()
    assert not (tmp_path / "data/dtd/images").exists()


def test_what_is_not_to_be_had_is_said_with_the_way_by_hand(remote, tmp_path, capsys):
    _, url = remote
    assert main(["--root", str(tmp_path / "data"), "eurosat", "--mirror", url]) == 1
    error = capsys.readouterr().err
    assert "Cannot download split_zhou_EuroSAT.json" in error
    assert "by hand and put it at" in error


def test_gone_data_sets_say_what_to_do(remote, tmp_path, capsys):
    folder, url = remote
    for name in ("StanfordCars", "SUN397"):
        (folder / f"split_zhou_{name}.json").write_text("{}")
    assert main(["--root", str(tmp_path), "stanford_cars", "sun397", "--mirror", url]) == 0
    text = capsys.readouterr().out
    assert "stanford_cars: by hand: the official archives are gone since 2023" in text
    assert "sun397: by hand:" in text
