"""Torch files: what is read as it was saved, what is refused, and what a refusal may cost."""

import collections
import copy
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torch_files as made
import torch_fuzz
from conftest import REPOSITORY
from dassl.utils import torchfile

PROTOCOLS = [2, 3, 4, 5]


def saved(value, path, **options):
    torch.save(value, path, **options)
    return str(path)


def assert_same(got, want):
    """Equal, of equal types, tensors of equal strides and flags."""
    assert type(got) is type(want)
    if isinstance(want, torch.Tensor):
        assert (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
        assert got.storage_offset() == want.storage_offset()
        assert got.requires_grad == want.requires_grad
        assert torch.equal(got, want)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for key in want:
            assert_same(got[key], want[key])
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, two in zip(got, want, strict=True):
            assert_same(one, two)
    else:
        assert got == want


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]
VIEWS = [
    lambda t: t,
    lambda t: t.t() if t.dim() == 2 else t,
    lambda t: t[..., 1:] if t.dim() else t,
    lambda t: t[::2] if t.dim() else t,
    lambda t: nn.Parameter(t) if t.is_floating_point() else t,
    lambda t: t.requires_grad_() if t.is_floating_point() else t,
]


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.arange(float(np.prod(shape))).reshape(shape).sub(1)
    return draw(st.sampled_from(VIEWS))(values.to(draw(st.sampled_from(DTYPES))))


KEYS = st.one_of(st.text(max_size=5), st.integers(-9, 9), st.tuples(st.text(max_size=2)))
PLAIN = [
    *(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.text(max_size=300)),
    *(st.floats(allow_nan=False), st.sampled_from([torch.float16, torch.device("cuda:1")])),
    st.lists(st.integers(0, 9), max_size=3).map(torch.Size),
]
OTHER = [  # torch's own restricted reader takes these in some versions only
    *(st.binary(max_size=300), st.binary(max_size=9).map(bytearray)),
    *(st.sets(st.text(max_size=5)), st.frozensets(st.integers(0, 9))),
    *(st.complex_numbers(allow_nan=False), st.text(max_size=5).map(collections.Counter)),
]


def nested(*leaves):
    return st.recursive(
        st.one_of(tensors(), *leaves),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(KEYS, inner, max_size=4),
            st.dictionaries(KEYS, inner, max_size=4).map(collections.OrderedDict),
        ),
        max_leaves=12,
    )


@settings(max_examples=60, deadline=None)
@given(value=nested(*PLAIN))
def test_what_torch_reads_is_read_alike(value, tmp_path_factory):
    path = saved(value, tmp_path_factory.getbasetemp() / "alike.pt")
    assert_same(torchfile.read(path), torch.load(path, weights_only=True))


@settings(max_examples=60, deadline=None)
@given(value=nested(*PLAIN, *OTHER), protocol=st.sampled_from(PROTOCOLS))
def test_what_was_saved_comes_back_in_every_protocol(value, protocol, tmp_path_factory):
    path = saved(value, tmp_path_factory.getbasetemp() / "back.pt", pickle_protocol=protocol)
    assert_same(torchfile.read(path), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_views_of_one_storage_still_share_it(protocol, tmp_path):
    base = torch.arange(12.0)
    views = {"whole": base, "part": base.view(3, 4)[1:, ::2], "same": base}
    got = torchfile.read(saved(views, tmp_path / "x.pt", pickle_protocol=protocol))
    got["whole"][4] = 100
    assert got["part"].tolist() == [[100, 6], [8, 10]]
    assert got["same"] is got["whole"]


def test_tensors_own_their_memory(tmp_path):
    path = saved({"w": torch.ones(1000)}, tmp_path / "x.pt")
    w, again = torchfile.read(path)["w"], torchfile.read(path)["w"]
    os.remove(path)
    assert w.add_(1).eq(2).all()
    assert again.eq(1).all()
    assert w.data_ptr() % 64 == 0


def test_rare_types_and_attributes(tmp_path):
    parameter, buffer = nn.Parameter(torch.ones(2)), torch.ones(3)
    parameter.note = buffer.note = "of the writing program"
    values = {
        "uint16": torch.tensor([1, 2], dtype=torch.uint16),
        "float8": torch.ones(2).to(torch.float8_e5m2),
        "parameter": parameter,
        "buffer": buffer,
        "storage": torch.ones(2).untyped_storage(),
        "default dict": collections.defaultdict(list, {"a": [1]}),
    }
    got = torchfile.read(saved(values, tmp_path / "x.pt"))
    assert got["uint16"].tolist() == [1, 2]
    assert got["float8"].dtype == torch.float8_e5m2
    assert type(got["parameter"]) is nn.Parameter
    assert got["buffer"].tolist() == [1, 1, 1]
    assert bytes(got["storage"]) == struct.pack("<2f", 1, 1)
    assert got["default dict"] == {"a": [1]}
    assert type(got["default dict"]) is dict  # looking up a key must not add it


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.tensor([1j]).conj(), "conjugate or negative view"),
        (torch.eye(2).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.ones(3).expand(4, 3), "larger than the bytes"),
    ],
)
def test_tensors_of_other_kinds_are_refused_by_name(tensor, message, tmp_path):
    path = saved({"w": tensor}, tmp_path / "x.pt")
    with pytest.raises(torchfile.UnsafeFileError, match=message):
        torchfile.read(path)


def test_versions_of_modules_are_kept(tmp_path):
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    assert torchfile.read(saved(state, tmp_path / "x.pt"))._metadata == state._metadata


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 b1 >f8 >i4".split())
def test_numbers_of_numpy_become_python_s(kind, protocol, tmp_path):
    number = np.ones(1, dtype=kind)[0]
    got = torchfile.read(saved({"val_result": number}, tmp_path / "x.pt", pickle_protocol=protocol))
    assert got == {"val_result": 1}
    assert type(got["val_result"]) is type(number.item())


def test_optimizers_and_schedules_become_records_that_can_do_nothing(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.5)
    weight.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    record = torchfile.read(saved(schedule, tmp_path / "x.pt"))
    assert type(record) is torchfile.Record
    assert record.name == "torch.optim.lr_scheduler.CosineAnnealingLR"
    assert (record["last_epoch"], record["T_max"]) == (0, 5)
    (state,) = record["optimizer"]["state"].values()
    assert torch.equal(state["exp_avg"], optimizer.state[weight]["exp_avg"])
    assert record["optimizer"]["param_groups"][0]["lr"] == 0.5
    again = copy.deepcopy(record)
    assert (again.name, list(again)) == (record.name, list(record))


def test_entries_that_are_not_needed_are_not_read(tmp_path):
    path = made.write_zip(tmp_path / "x.pt", made.pickled(made.tensor()), {"0": bytes(4)})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/code/__torch__.py", "x" * 9999)
        archive.writestr("archive/constants.pkl", made.pickled(made.name("os", "system")))
    assert torchfile.read(path).tolist() == [0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a file that is run would leave `executed`."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("case", made.PICKLES)
def test_a_pickle_that_is_not_data_is_refused_by_name(case, folder):
    path = made.write_case(case, folder / "x.pt")
    message = f"^Cannot read '.*x.pt': .*({made.PICKLES[case][1]})"
    with pytest.raises(ValueError, match=message) as error:
        torchfile.read(path)
    assert len(str(error.value).splitlines()) == 1
    assert "Nothing was executed" in str(error.value) or "lacks" in str(error.value)
    counts = collections.OrderedDict(collections.Counter("aab"))  # both as they were
    assert dict(counts.items()) == {"a": 2, "b": 1}


def test_a_memo_index_costs_nothing(tmp_path):
    assert torchfile.read(made.write_zip(tmp_path / "x.pt", made.MEMO_INDEX)) is None


def with_bytes(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


WEIGHTS = made.pickled(made.tensor(0, (4,), (1,), made.storage("0", 4)))
FOUR = struct.pack("<4f", 1, 2, 3, 4)


def deflated(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR}, compression=zipfile.ZIP_DEFLATED)


def wrong_checksum(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    with_bytes(path, FOUR, FOUR[:-1] + b"\x00")


def encrypted(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def twice(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR, "1": bytes(16)})
    with_bytes(path, b"archive/data/1", b"archive/data/0")


def overlapping(path):
    """Storage 1 lies, header and all, within storage 0."""
    inner = zipfile.ZipInfo("archive/data/1")
    inner.file_size = inner.compress_size = len(FOUR)
    inner.CRC = zlib.crc32(FOUR)
    raw = inner.FileHeader(zip64=False) + FOUR
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", made.pickled(made.storage("0", len(raw) // 4)))
        archive.writestr("archive/data/0", raw)
        inner.header_offset = archive.fp.tell() - len(raw)
        archive.filelist.append(inner)


def misplaced(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    data = bytearray(path.read_bytes())
    data[data.index(b"archive/data/0") - 1] = 9  # an extra field that reaches into what follows
    path.write_bytes(data)


def two_roots(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", WEIGHTS)


def big_endian(path):
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")


def many_entries(path):
    entry = zipfile.ZipInfo("x" * 60_000)
    entry.header_offset = entry.CRC = 0
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", WEIGHTS)
        archive.filelist += [entry] * 200


def long_pickle(path):
    made.write_zip(path, made.pickled(made.text("x" * (17 << 20))))


ZIPS = {
    deflated: r"'archive/data\.pkl' in it is compressed or encrypted",
    encrypted: r"'archive/data\.pkl' in it is compressed or encrypted",
    wrong_checksum: "'archive/data/0' in it is damaged: its checksum is wrong",
    twice: "holds 'archive/data/0' twice",
    overlapping: "'archive/data/0' in it does not lie where",
    misplaced: "'archive/data/0' in it does not lie where",
    two_roots: r"holds 2 \*/data\.pkl",
    big_endian: "in 'big' byte order",
    many_entries: "list of entries is longer than a torch file's",
    long_pickle: "at most 16,777,216 are read",
}


@pytest.mark.parametrize("write", ZIPS)
def test_a_zip_that_torch_does_not_write_is_refused(write, tmp_path):
    path = tmp_path / "x.pt"
    write(path)
    with pytest.raises(ValueError, match=f"^Cannot read '.*x.pt': .*{ZIPS[write]}"):
        torchfile.read(path)


FOREIGN = {
    b"": "it is empty",
    b"<!DOCTYPE html><html>": "begins with '<!DOCTYPE html><'. Was it downloaded whole?",
    made.MEMO_INDEX: r"since torch 1\.6.*torch\.save\(torch\.load\(OLD\), NEW\)",
    pickle.dumps({"w": 1}, 2): r"since torch 1\.6",
    bytes(257) + b"ustar" + bytes(300): r"since torch 1\.6",
    b"\x40" + bytes(7) + b'{"w":{"dtype":"F32"}}': r"has to end in \.safetensors",
    b"PK\x03\x04 torn": "its end is missing. The file is torn",
}


@pytest.mark.parametrize("data", FOREIGN)
def test_a_file_of_another_kind_is_told_what_it_is(data, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^Cannot read '.*x.pt': .*{FOREIGN[data]}"):
        torchfile.read(path)


def test_files_of_torch_before_1_6_are_refused(tmp_path):
    path = saved({"w": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"since torch 1\.6"):
        torchfile.read(path)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        torchfile.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^Cannot read '.*': Is a directory"):
        torchfile.read(tmp_path)


def test_cuts_and_every_changed_byte_are_refused_or_harmless(tmp_path):
    path = tmp_path / "x.pt"
    value = {"w": torch.arange(5.0), "epoch": 3}
    data = open(saved(value, path), "rb").read()
    for end in range(0, len(data), 9):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match="Cannot read"):
            torchfile.read(path)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        try:
            assert_same(torchfile.read(path), value)
        except ValueError as error:
            assert "Cannot read" in str(error)


@pytest.mark.parametrize("is_long", [False, True])
def test_zip_files_of_other_writers_are_read(is_long, tmp_path):
    """Comments, and sizes and positions in 64 bits."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"x/data.pkl": WEIGHTS, "x/data/0": FOUR}.items():
            with archive.open(name, "w", force_zip64=is_long) as file:
                file.write(data)
        archive.comment = b"a comment, PK\x05\x06"[: 0 if is_long else 11]
    assert torchfile.read(path).tolist() == [1, 2, 3, 4]


def test_sizes_in_64_bits_are_followed(tmp_path, monkeypatch):
    path = tmp_path / "x.pt"
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    made.write_zip(path, WEIGHTS, {"0": FOUR})
    assert b"PK\x06\x06" in path.read_bytes()
    assert torchfile.read(path).tolist() == [1, 2, 3, 4]


def test_modules_are_walked_once(tmp_path):
    path = made.write_zip(tmp_path / "x.pt", made.record_dag(12), {"0": bytes(4)})
    record = torchfile.read(path)
    assert record["a"]["b"] is record["b"]["b"]
    assert list(torchfile.named_tensors(record)) == ["a." * 12 + "w"]


LIMITED = """
import json, resource, sys
from dassl.utils import torchfile

torchfile.read(sys.argv[1])  # what torch needs to start with is there now
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (500 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))  # what takes 2 to the depth steps ends here
answers = {}
for path in sys.argv[2:]:
    try:
        answers[path] = repr(torchfile.read(path))
    except ValueError as error:
        answers[path] = str(error)
print(json.dumps(answers))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_refusals_need_little_memory_and_end(tmp_path):
    paths = [made.write_case(case, tmp_path / f"{i}.pt") for i, case in enumerate(made.PICKLES)]
    paths.append(made.write_zip(tmp_path / "memo.pt", made.MEMO_INDEX))
    for write in ZIPS:
        paths.append(str(tmp_path / f"{write.__name__}.pt"))
        write(tmp_path / f"{write.__name__}.pt")
    good = made.write_zip(tmp_path / "good.pt", WEIGHTS, {"0": FOUR})
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, good, *paths],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    assert list(answers) == paths
    read = [path for path, answer in answers.items() if "Cannot read" not in answer]
    assert read == [str(tmp_path / "memo.pt")]


def test_made_up_and_mutated_files_are_read_or_refused(tmp_path):
    outcomes = torch_fuzz.fuzz(100, 1, tmp_path)
    assert sum(outcomes.values()) == 400
    assert {what for _, what in outcomes} == {"read", "RequestError", "UnsafeFileError"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_made_up_and_mutated_files_are_read_or_refused(seed, tmp_path):
    outcomes = torch_fuzz.fuzz(20_000, seed, tmp_path)
    assert sum(outcomes.values()) == 80_000
