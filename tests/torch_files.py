"""Torch files made by hand: a pickle, opcode by opcode, and raw storages in a zip."""

import struct
import sys
import zipfile


def write_zip(path, pickle, storages=None, root="archive", compression=zipfile.ZIP_STORED):
    """A file in torch's layout; `storages` are raw bytes by key."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        for key, raw in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", raw)
    return str(path)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x0c" + value.to_bytes(12, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key="0", elements=1, kind="FloatStorage"):
    described = text("storage") + name("torch", kind) + text(key) + text("cpu") + number(elements)
    return b"(" + described + b"tQ"


def tensor(offset=0, size=(1,), stride=(1,), described=None):
    arguments = (described or storage()) + number(offset) + numbers(size) + numbers(stride)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"\x89}tR"


def pickled(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def keep(index):
    return b"r" + struct.pack("<I", index)


def recall(index):
    return b"j" + struct.pack("<I", index)


def record_dag(depth):
    """Modules of which each holds the one before it twice; the first one has a tensor."""
    node = name("__torch__", "M") + b")\x81}(" + text("a") + b"%b" + text("b") + b"%bub"
    parts = [name("__torch__", "M") + b")\x81}" + text("w") + tensor() + b"sb" + keep(0)]
    for index in range(depth):
        parts.append(node.replace(b"%b", recall(index)) + keep(index + 1))
    return pickled(*parts)


def tuple_dag(depth):
    """Tuples of which each holds the one before it twice; the last one is a dict's key."""
    pairs = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth))
    return pickled(b"})", *pairs, b"Ns")


MEMO_INDEX = b"\x80\x02Nr\x00\x00\x00\x20."
COMMAND = text("touch executed") + b"\x85R"
COUNTER = name("collections", "Counter") + b"}\x85R"
ORDERED = name("collections", "OrderedDict") + b")R"
POISON = b"N}" + text("update") + b"K\x01s" + text("items") + b"K\x01s\x86b"
VERSION = b"}" + text("version") + b"K\x01s"
RECORD = name("__torch__", "M") + b")\x81"
FROM_TYPE = name("torch._tensor", "_rebuild_from_type_v2")

# pickle -> what the message says; one storage "0" of four bytes is there
PICKLES = {
    "a call": (name("os", "system") + COMMAND, r"asks for 'os\.system', which is not data"),
    "a call by stack": (
        text("posix") + text("system") + b"\x93" + COMMAND, r"'posix\.system'"),
    "an attribute": (name("builtins", "getattr"), r"'builtins\.getattr'"),
    "torch's reader": (name("torch.serialization", "load"), r"'torch\.serialization\.load'"),
    "a nested name": (text("torch.Tensor") + text("x") + b"\x93", r"'torch\.Tensor\.x'"),
    "a long name": (text("__torch__." + "m" * 999) + text("x") + b"\x93", "no name"),
    "a name without end": (b"ctorch", "without end"),
    "INST": (b"(" + text("touch executed") + b"ios\nsystem\n", "opcode b'i'"),
    "OBJ": (b"(" + name("os", "system") + text("touch executed") + b"o", "'os.system'"),
    "EXT1": (b"\x82\x01", "opcode"),
    "a protocol 0 number": (b"I" + b"9" * 9999 + b"\n", "opcode b'I'"),
    "a call of a type": (name("torch", "FloatStorage") + b")R", "calls 'torch.FloatStorage'"),
    "a call of a number": (b"K\x01)R", "calls something that is not a function"),
    "an object of a function": (name("torch", "Size") + b")\x81", "not only carried along"),
    "arguments that do not fit": (name("torch", "device") + b"K\x01\x85R", "do not fit"),
    "memory by a call": (
        name("__builtin__", "bytearray") + number(1 << 40) + b"\x85R", "do not fit"),
    "a poisoned Counter": (COUNTER + POISON, "sets attributes of a Counter"),
    "a poisoned OrderedDict": (ORDERED + POISON, "attributes other than torch's"),
    "a poisoned class": (
        name("collections", "Counter") + POISON, "sets attributes of a Name"),
    "hidden methods": (
        ORDERED + b"}" + text("items") + b"K\x01sb", "attributes other than torch's"),
    "versions that are none": (
        ORDERED + b"}" + text("_metadata") + b"}" + text("") + b"K\x01ssb",
        "attributes other than torch's"),
    "a tuple DAG as a key": (tuple_dag(45)[2:-1], "tuple is the key of a dict"),
    "a record DAG": (record_dag(60)[2:-1], "hold more than"),
    "a list DAG": (
        b"]" + b"".join(b"q\x00](h\x00h\x00e" for _ in range(60)), "hold more than"),
    "a list in itself": (b"]q\x00h\x00a", "nested more than 100 deep"),
    "deep lists": (b"]" * 9999 + b"a" * 9998, "nested more than 100 deep"),
    "deep default dicts": (
        b"".join([name("collections", "defaultdict"), b"q\x00)R", b"K\x01h\x00)R" * 60_000,
                  b"s" * 60_000]), "nested more than 100 deep"),
    "a million numbers": (b"](" + b"K\x01" * 1_000_000 + b"e", "more than 500,000 steps"),
    "one text encoded often": (
        name("_codecs", "encode") + b"q\x00" + text("x" * 999_999) + text("latin1")
        + b"\x86q\x01R" + b"h\x00h\x01R" * 9999, "more than 500,000 steps"),
    "one set copied often": (
        name("__builtin__", "set") + b"q\x00](" + b"".join(map(number, range(9999)))
        + b"e\x85q\x01R" + b"h\x00h\x01R" * 9999, "more than 500,000 steps"),
    "one state copied often": (
        ORDERED + b"q\x00}" + text("_metadata") + b"}(" + text("m") + VERSION + b"q\x02"
        + b"".join(text(str(i)) + b"h\x02" for i in range(9999)) + b"usq\x01b"
        + b"h\x00h\x01b" * 9999, "more than 500,000 steps"),
    "one attribute set often": (
        RECORD + b"q\x00}(" + b"".join(text(str(i)) + b"N" for i in range(9999)) + b"uq\x01b"
        + b"h\x00h\x01b" * 9999, "more than 500,000 steps"),
    "keys of one hash": (
        b"}(" + b"".join(number(i * sys.hash_info.modulus) + b"N" for i in range(9999)) + b"u",
        "more than 500,000 steps"),
    "tuples as keys": (
        b"}(" + b"".join(number(i) + b"\x85N" for i in range(9999)) + b"u",
        "more than 500,000 steps"),
    "a set in a set": (b"\x8f(\x8f\x90", "set is the key of a dict or is in a set"),
    "a list as a key": (b"}]Ns", "list is the key of a dict"),
    "an item of no dict": (RECORD + b"K\x01K\x01s", "of another type"),
    "an empty stack": (b"R", "misses a value"),
    "no mark": (b"K\x01t", "misses a mark"),
    "nothing kept": (b"h\x07", "did not keep"),
    "half a text": (b"X\xff\xff\xff\x7fabc", "ends in the middle"),
    "a key alone": (b"}(K\x01u", "a key without a value"),
    "a zero stride": (tensor(0, (1 << 30,), (0,)), "larger than the bytes"),
    "a small stride": (
        tensor(0, (3, 3), (1, 1), storage("1", 5)), "larger than the bytes"),
    "an offset beyond": (tensor(1), "larger than the bytes"),
    "an offset below": (tensor(-1), "no valid size"),
    "a size below": (tensor(0, (-1,)), "no valid size"),
    "a stride below": (tensor(0, (2,), (-1,)), "no valid size"),
    "a size beyond all": (tensor(0, (1 << 62, 1 << 62), (1, 1)), "larger than the bytes"),
    "an empty size beyond all": (tensor(0, (0, 1 << 62), (1, 1)), "larger than the bytes"),
    "an empty size far away": (tensor((1 << 63) - 1, (0,)), "larger than the bytes"),
    "a stride too few": (tensor(0, (1, 1), (1,)), "no size"),
    "many sizes": (tensor(0, (1,) * 99, (1,) * 99), "no valid size"),
    "a larger storage": (storage("0", 2), "another size than it says"),
    "a storage of nothing": (storage("7", 1), "lacks 'archive/data/7'"),
    "a storage of no type": (storage("0", 1, "Size"), "described"),
    "a storage that is a name": (name("torch", "FloatStorage") + b"Q", "described"),
    "another class of tensor": (
        FROM_TYPE + b"(" + name("torch._utils", "_rebuild_tensor_v2")
        + name("__torch__", "M") + b"))tR", "class that is not torch's"),
    "one storage many times": (
        b"](" + tensor(0, (1 << 20,), (1,), storage("2", 1 << 20)) + b"q\x00"
        + tensor(0, (1 << 20,), (1,), storage("2", 1 << 20)) * 20 + b"e", "many times"),
}  # fmt: skip


def write_case(case, path):
    """The file of a case of `PICKLES`."""
    storages = {"0": bytes(4), "1": bytes(20)}
    if case == "one storage many times":
        storages["2"] = bytes(4 << 20)
    return write_zip(path, pickled(PICKLES[case][0]), storages)
