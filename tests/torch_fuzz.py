"""Mutated torch files and made-up pickles: each is read, or refused by a RequestError.

python tests/torch_fuzz.py 20000        # so many of each kind; prints what came out of them
"""

import collections
import io
import pickletools
import random
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import nn

import torch_files as made
from dassl.errors import RequestError
from dassl.utils import torchfile

WORDS = [
    *("storage", "0", "1", "cpu", "latin1", "f8", "<", "_metadata", "version", "", "a" * 300),
    *("os", "system", "torch", "FloatStorage", "collections", "OrderedDict", "_codecs", "encode"),
]
NAMES = [
    *(("collections", "OrderedDict"), ("collections", "Counter"), ("collections", "defaultdict")),
    *(("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")),
    *(("torch._utils", "_rebuild_tensor_v3"), ("torch._tensor", "_rebuild_from_type_v2")),
    *(("torch", "FloatStorage"), ("torch", "Size"), ("torch", "device"), ("torch", "float16")),
    *(("numpy", "dtype"), ("numpy.core.multiarray", "scalar"), ("_codecs", "encode")),
    *(("__builtin__", "set"), ("__builtin__", "frozenset"), ("__builtin__", "bytearray")),
    *(("__torch__", "M"), ("torch.optim.sgd", "SGD"), ("torch.jit._pickle", "build_intlist")),
    *(("os", "system"), ("builtins", "getattr"), ("torch.serialization", "load")),
]


def real_files():
    """A checkpoint in two protocols, a state dict with views, and a TorchScript-like archive."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    base = torch.arange(12.0)
    objects = [
        {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3},
        {"whole": base, "part": base.view(3, 4)[:, 1:3], "bf16": base.bfloat16(), "set": {1, 2}},
        {"scheduler": {"successor": schedule}, "names": ("a", b"bytes", 2**70, None)},
    ]
    for protocol in (2, 4, 5):
        for value in objects:
            file = io.BytesIO()
            torch.save(value, file, pickle_protocol=protocol)
            yield file.getvalue()


def spoil(data, rng):
    """One to four bytes, runs or cuts."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(0, 8))
        elif kind == 2:
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f"])
        else:
            data = data[:at] + data[at + rng.randint(1, 30) :]
    return bytes(data)


def with_other_pickle(data, change, rng):
    """The same zip, its checksums right, with a changed pickle."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            raw = old.read(entry)
            new.writestr(entry, change(raw, rng) if entry.endswith("/data.pkl") else raw)
    return target.getvalue()


def shuffle_opcodes(pickle, rng):
    """Opcodes left out, doubled, exchanged, or made up between the others."""
    starts = [at for _, _, at in pickletools.genops(pickle)]
    opcodes = [pickle[a:b] for a, b in zip(starts, [*starts[1:], len(pickle)], strict=True)]
    for _ in range(rng.randint(1, 3)):
        one, two = rng.randrange(len(opcodes)), rng.randrange(len(opcodes))
        kind = rng.randrange(4)
        if kind == 0:
            opcodes[one], opcodes[two] = opcodes[two], opcodes[one]
        elif kind == 1:
            opcodes.insert(one, opcodes[two])
        elif kind == 2:
            opcodes.insert(one, made_up_opcode(rng))
        elif len(opcodes) > 1:
            del opcodes[one]
    return b"".join(opcodes)


def made_up_opcode(rng):
    """Any opcode there is, or a small value."""
    code = rng.choice(pickletools.opcodes).code.encode("latin-1")
    return rng.choice([code, made_up_value(rng, 1)])


def made_up_value(rng, depth):
    """Opcodes that put one value on the stack: a plain one, or one of others below `depth`."""
    inner = [made_up_value(rng, depth - 1) for _ in range(rng.randrange(4))] if depth else []
    called = made.name(*rng.choice(NAMES))
    kinds = [
        lambda: made.text(rng.choice(WORDS)),
        lambda: made.number(rng.choice([0, 1, -1, 3, 1 << 31, 1 << 62, (1 << 63) - 1])),
        lambda: rng.choice([b"N", b"\x88", b"K\x02", b")", b"]", b"}", b"\x8f", b"C\x01a", called]),
        lambda: made.storage(rng.choice("01"), rng.choice([1, 2, 4, 1 << 40])),
        lambda: made.tensor(rng.randrange(3), (rng.randrange(3), 2), (rng.randrange(3), 1)),
        lambda: made.keep(0) if rng.random() < 0.1 else made.recall(rng.randrange(3)),
        lambda: b"](" + b"".join(inner) + b"e",
        lambda: b"(" + b"".join(inner) + b"t",
        lambda: rng.choice([b"", called + b")R"]) + b"}(" + b"".join(inner) + b"u",
        lambda: called + b"(" + b"".join(inner) + b"tR",
        lambda: called + rng.choice([b")\x81", b")R"]) + b"".join(inner[:1]) + b"b",
        lambda: b"\x8f(" + b"".join(inner) + rng.choice([b"\x90", b"\x91"]),
    ]
    return rng.choice(kinds)() + rng.choice([b"", b"", b"\x94"])


def made_up_pickle(rng):
    """A dict of such values, so that some come before the one that is refused."""
    values = [made.text(str(i)) + made_up_value(rng, 3) for i in range(rng.randint(1, 3))]
    return made.pickled(b"}(", *values, b"u")


def files(count, seed):
    """(kind, bytes): `count` files of each kind."""
    rng = random.Random(seed)
    originals = list(real_files())
    for _ in range(count):
        yield "spoilt file", spoil(rng.choice(originals), rng)
        yield "spoilt pickle", with_other_pickle(rng.choice(originals), spoil, rng)
        yield "shuffled pickle", with_other_pickle(rng.choice(originals), shuffle_opcodes, rng)
        target = io.BytesIO()
        made.write_zip(target, made_up_pickle(rng), {"0": bytes(16), "1": bytes(8)})
        yield "made-up pickle", target.getvalue()


def fuzz(count, seed, folder):
    """How often each kind of file was read or refused.

    Raises whatever else the reader raises; the file is then left as `folder`/fuzz.pt.
    """
    outcomes = collections.Counter()
    path = Path(folder, "fuzz.pt")
    for kind, data in files(count, seed):
        path.write_bytes(data)
        try:
            torchfile.read(path)
            outcomes[kind, "read"] += 1
        except RequestError as error:
            if str(path) not in str(error):
                raise
            outcomes[kind, type(error).__name__] += 1
    return outcomes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for outcome, number in sorted(fuzz(int(sys.argv[1]), 0, folder).items()):
            print(*outcome, number)
