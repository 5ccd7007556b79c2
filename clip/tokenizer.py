"""CLIP's byte-pair encoding: texts -> tokens (n, 77), on open_clip's vocabulary."""

import functools
import gzip
import html
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from dassl.errors import RequestError

__all__ = ["BOS", "CONTEXT_LENGTH", "EOT", "tokenize"]

CONTEXT_LENGTH = 77
BOS, EOT = 49406, 49407

_NUM_MERGES = 48894  # 49408 tokens less 2 x 256 bytes and the two special ones
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Tokens (n, context_length), int64: BOS, the text's, EOT, zeros.

    Raises:
        RequestError: a text needs more than `context_length` tokens; the message quotes it.
    """
    texts = [texts] if isinstance(texts, str) else texts
    tokens = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(tokens, texts, strict=True):
        encoded = [BOS, *_encode(text), EOT]
        if len(encoded) > context_length:
            raise RequestError(
                f"The text {text!r} needs {len(encoded)} tokens, CLIP takes {context_length}. "
                "Shorten the class name or the template."
            )
        row[: len(encoded)] = torch.tensor(encoded)
    return tokens


def _encode(text: str) -> list[int]:
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = " ".join(text.split()).lower()
    return [token for piece in _PIECES.findall(text) for token in _encode_piece(piece)]


@functools.lru_cache(maxsize=65536)
def _encode_piece(piece: str) -> tuple[int, ...]:
    """Merge the piece's bytes, always the earliest-learned pair first."""
    ids, ranks = _vocabulary()
    if piece in _SPECIAL:
        return (ids[piece],)
    symbols = [_byte_names()[byte] for byte in piece.encode("utf-8")]
    symbols[-1] += "</w>"
    while len(symbols) > 1:
        pairs = list(itertools.pairwise(symbols))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        symbols = _join(symbols, best)
    return tuple(ids[symbol] for symbol in symbols)


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    joined, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(symbols[i])
            i += 1
    return joined


@functools.cache
def _byte_names() -> dict[int, str]:
    """A printable character for each byte: printable ones themselves, the others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in names]
    return names | {byte: chr(256 + i) for i, byte in enumerate(others)}


@functools.cache
def _vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """(symbol -> token, pair -> rank), read from the file that open_clip ships."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise RequestError("CLIP's vocabulary comes with: pip install open_clip_torch")
    path = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _NUM_MERGES + 1]
    merges = [(first, second) for first, second in map(str.split, lines)]
    singles = list(_byte_names().values())
    symbols = singles + [s + "</w>" for s in singles] + ["".join(pair) for pair in merges]
    symbols += _SPECIAL
    ids = {symbol: token for token, symbol in enumerate(symbols)}
    return ids, {pair: rank for rank, pair in enumerate(merges)}
