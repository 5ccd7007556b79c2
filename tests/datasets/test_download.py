"""Downloads from a local server that plays the remote."""

import functools
import hashlib
import http.server
import tarfile
import threading
import zipfile

import pytest

from datasets import download
from datasets.transfer import transfer
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


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` with a tag; knows ranges, or not; may stop early or say nothing."""

    content, tag, knows_ranges, sent, silent = b"", '"1"', True, None, None
    asked: list = []

    def do_GET(self):
        if self.silent:
            self.silent.wait(30)
            return
        first = 0
        self.asked.append(self.headers["Range"])
        if self.knows_ranges and self.headers["Range"] and self.headers["If-Range"] == self.tag:
            first = int(self.headers["Range"][6:-1])
        if first >= len(self.content) > 0:
            self.send_error(416)
            return
        body = self.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.sent])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    class Own(Server):
        asked = []

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield Own, f"http://127.0.0.1:{service.server_port}/a.bin"
    service.shutdown()


@pytest.mark.parametrize("change", ["same", "changed", "no ranges"])
def test_a_transfer_goes_on_where_the_file_is_the_same(change, server, tmp_path):
    own, url = server
    own.content, own.sent = b"0123456789", 4
    with pytest.raises(ConnectionError, match="4 of 10 bytes came"):
        transfer(url, tmp_path / "a.bin")
    own.sent = None
    if change == "changed":
        own.content, own.tag = b"another file", '"2"'
    own.knows_ranges = change != "no ranges"
    transfer(url, tmp_path / "a.bin")
    assert own.asked == [None, "bytes=4-"]
    assert (tmp_path / "a.bin").read_bytes() == own.content
    assert len(list(tmp_path.iterdir())) == 1


def test_a_part_that_is_whole_already_does_not_stop_for_ever(server, tmp_path):
    own, url = server
    own.content = b"0123456789"
    (tmp_path / ".a.bin.part").write_bytes(b"0123456789 and more")
    (tmp_path / ".a.bin.part-of").write_text(own.tag)
    transfer(url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == own.content


def test_a_silent_server_is_left(server, tmp_path, monkeypatch):
    own, url = server
    own.silent = threading.Event()
    monkeypatch.setattr("datasets.transfer.TIMEOUT_S", 0.1)
    with pytest.raises(ConnectionError, match="timed out"):
        transfer(url, tmp_path / "a.bin")
    own.silent.set()


BAD = [b"<html>Log in</html>", b"", b"\x1f\x8b\x08\x00 torn"]


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_archive_is_removed_and_the_same_command_then_works(content, remote, tmp_path):
    folder, url = remote
    (folder / "split_zhou_DescribableTextures.json").write_text("{}")
    (folder / "dtd-r1.0.1.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"dtd-r1\.0\.1\.tar\.gz is not the archive.* removed"):
        download.download_dataset(tmp_path / "data", "dtd", mirror=url, md5="")
    kept = [p.name for p in (tmp_path / "data/dtd").iterdir()]
    assert kept == ["split_zhou_DescribableTextures.json"]
    make_tar(folder / "dtd-r1.0.1.tar.gz", "dtd/images", ["banded/1.jpg"])
    download.download_dataset(tmp_path / "data", "dtd", mirror=url, md5="")
    assert (tmp_path / "data/dtd/images/banded/1.jpg").is_file()


def test_a_web_page_in_place_of_a_list_is_removed_and_fetched_anew(remote, tmp_path):
    folder, url = remote
    target = tmp_path / "data/stanford_cars/split_zhou_StanfordCars.json"
    (folder / target.name).write_text("<html>")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"split_zhou_StanfordCars\.json is no list"):
            download.download_dataset(tmp_path / "data", "stanford_cars", mirror=url)
        assert not target.exists()
    target.write_text("<html>")
    (folder / target.name).write_text("{}")
    download.download_dataset(tmp_path / "data", "stanford_cars", mirror=url)
    assert target.read_text() == "{}"
