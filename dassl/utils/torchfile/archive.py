"""The zip of a torch file: an entry's name -> its bytes, which lie there as they are.

torch stores what it saves, so nothing here inflates. Every entry is confined to the bytes between
its own header and the next one's, and what is read is checked against its CRC-32.
"""

import io
import os
import struct
import zlib
from typing import NamedTuple

from dassl.errors import RequestError
from dassl.utils.torchfile.limits import MAX_DIRECTORY
from dassl.utils.torchfile.records import UnsafeFileError

__all__ = ["TORN", "Archive"]

TORN = "its end is missing. The file is torn: was it written, copied or downloaded whole?"

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_EXTRA = struct.Struct("<2H")
_IS_LONG = 0xFFFFFFFF  # stands for a value of 64 bits that is written elsewhere
_ENCRYPTED = 0x1
_MAX_COMMENT = 0xFFFF
_CHUNK = 1 << 20  # stays in the cache between being read and its checksum


class Entry(NamedTuple):
    """What the directory says of an entry; positions are in bytes from the file's start."""

    header: int
    limit: int  # where the next entry begins, or the directory
    size: int
    crc: int
    is_stored: bool  # neither compressed nor encrypted


class Archive:
    """The entries of an open torch file."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        """Read the directory.

        Raises:
            RequestError: the file is of another kind or torn; the message says which.
        """
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        _check_kind(self._read_at(0, min(self.size, 512)))
        position, size = self._find_directory()
        self.entries, self._repeated = _parse_directory(self._read_at(position, size), position)

    def _read_at(self, position: int, size: int) -> bytes:
        self.file.seek(min(position, self.size))
        data = self.file.read(size)
        if len(data) != size:
            raise RequestError(TORN)
        return data

    def _find_directory(self) -> tuple[int, int]:
        """Position and size of the list of entries."""
        tail_size = min(self.size, _LOCATOR64.size + _END.size + _MAX_COMMENT)
        tail = self._read_at(self.size - tail_size, tail_size)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            raise RequestError(TORN)
        *_, size, position, comment_size = _END.unpack_from(tail, at)
        if at + _END.size + comment_size != len(tail):
            raise RequestError(TORN)
        locator = tail[max(0, at - _LOCATOR64.size) : at]
        if _IS_LONG in (size, position) and locator.startswith(b"PK\x06\x07"):
            _, _, where, _ = _LOCATOR64.unpack(locator)
            *_, size, position = _END64.unpack(self._read_at(where, _END64.size))
        if size > MAX_DIRECTORY or position + size > self.size:
            raise UnsafeFileError("its list of entries is longer than a torch file's")
        return position, size

    def find(self, name: str) -> tuple[int, Entry]:
        """Where the bytes of an entry begin, and the rest of what is known of it.

        Raises:
            RequestError: there is none of that name.
            UnsafeFileError: there are two, it is compressed or encrypted, or lies elsewhere.
        """
        if name not in self.entries:
            raise RequestError(f"it lacks {name!a}")
        entry = self.entries[name]
        if name in self._repeated:
            raise UnsafeFileError(f"it holds {name!a} twice")
        if not entry.is_stored:
            raise UnsafeFileError(f"{name!a} in it is compressed or encrypted; torch stores it")
        header = self._read_at(entry.header, _LOCAL.size)
        signature, _, flags, method, *_, name_size, extra_size = _LOCAL.unpack(header)
        own_name = self._read_at(entry.header + _LOCAL.size, name_size).decode("latin-1")
        start = entry.header + _LOCAL.size + name_size + extra_size
        is_as_listed = (signature, method, own_name) == (b"PK\x03\x04", 0, name)
        if not is_as_listed or flags & _ENCRYPTED or start + entry.size > entry.limit:
            raise UnsafeFileError(f"{name!a} in it does not lie where its list of entries says")
        return start, entry

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of an entry of at most `limit` bytes.

        Raises:
            RequestError: as `find` and `read_into`, or it is larger.
        """
        size = self.find(name)[1].size
        if size > limit:
            raise UnsafeFileError(f"{name!a} in it has {size:,} bytes; at most {limit:,} are read")
        data = bytearray(size)
        self.read_into(name, memoryview(data))
        return bytes(data)

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill a buffer of the entry's size.

        Raises:
            RequestError: as `find`, or the bytes do not have their checksum.
        """
        start, entry = self.find(name)
        self.file.seek(start)
        crc = 0
        for at in range(0, entry.size, _CHUNK):
            chunk = buffer[at : at + _CHUNK]
            if self.file.readinto(chunk) != len(chunk):
                raise RequestError(TORN)
            crc = zlib.crc32(chunk, crc)
        if crc != entry.crc:
            raise RequestError(f"{name!a} in it is damaged: its checksum is wrong. Get it anew")


def _check_kind(head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        return
    if not head:
        raise RequestError("it is empty")
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        raise RequestError(
            "it is not the zip that torch.save writes since torch 1.6. If you trust it, save it "
            "again with a current torch: torch.save(torch.load(OLD), NEW)"
        )
    if head[8:9] == b"{":
        raise RequestError("it seems to be a safetensors file; its name has to end in .safetensors")
    begin = ascii(head[:16])[1:]
    raise RequestError(f"it is not a torch file: it begins with {begin}. Was it downloaded whole?")


def _parse_directory(directory: bytes, position: int) -> tuple[dict[str, Entry], set[str]]:
    """The entries by name, and the names that occur more than once."""
    entries: dict[str, Entry] = {}
    repeated: set[str] = set()
    at = 0
    while at < len(directory):
        name, entry, at = _parse_entry(directory, at)
        if name in entries:
            repeated.add(name)
        entries[name] = entry
    limit = position
    for name, entry in sorted(entries.items(), key=lambda item: -item[1].header):
        entries[name] = entry._replace(limit=limit)
        limit = min(limit, entry.header)
    return entries, repeated


def _parse_entry(directory: bytes, at: int) -> tuple[str, Entry, int]:
    """Name and entry at `at`, and where the next one is listed."""
    name_at = at + _CENTRAL.size
    if name_at > len(directory):
        raise RequestError("its list of entries is torn")
    signature, _, _, flags, method, _, _, crc, packed, size, *rest = _CENTRAL.unpack_from(
        directory, at
    )
    name_size, extra_size, comment_size, _, _, _, header = rest
    extra_at = name_at + name_size
    end = extra_at + extra_size + comment_size
    if signature != b"PK\x01\x02" or end > len(directory):
        raise RequestError("its list of entries is torn")
    # every byte is a letter in latin-1: no name fails, and no two become one
    name = directory[name_at:extra_at].decode("latin-1")
    extra = directory[extra_at : extra_at + extra_size]
    size, packed, header = _with_long_values([size, packed, header], extra)
    is_stored = method == 0 and not flags & _ENCRYPTED and packed == size
    return name, Entry(header, 0, size, crc, is_stored), end


def _with_long_values(fields: list[int], extra: bytes) -> list[int]:
    """The fields; those of 64 bits stand in the ZIP64 part of `extra`, in the same order."""
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, size = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == 1:
            part = extra[at : at + size]
            values = (value for (value,) in struct.iter_unpack("<Q", part[: len(part) // 8 * 8]))
            return [next(values, field) if field == _IS_LONG else field for field in fields]
        at += size
    return fields
