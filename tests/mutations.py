"""Mutations of input files: of trees of values, of their text, and of their bytes."""

import copy

ODD_VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 2**70, 10**400, -(10**9), 0.5, 1e300, "", " ", "a", "é"),
    *(float("nan"), float("inf"), float("-inf"), [], {}, [[]], [1, "a"], {"a": 1}, "a\nb", "\0"),
    *("../up.jpg", "/abs.jpg", "C:\\a.jpg", "_", "{}", "a {} b", "nan", "1e999", "[", "(1, 2)"),
    *("x" * 5000, "-1", "0x10", "True", "[1, 2]", "\ud800", "\u2028", "\ufeff", "a b", "9" * 5000),
]
ODD_TEXT = [
    *("NaN", "Infinity", "1e999", "9" * 5000, '"\\ud800"', '"\\u0000"', "[" * 100_000, "{" * 2000),
    *("nul", "0x10", "010", "1_000", "1:30", "on", "no", "~", ".nan", "-.inf", "1e3", "2001-99-99"),
    *("&a [*a]", "*a", "!!int ''", "!!float ''", "!!python/object:os.system x", "!!timestamp x"),
    *(
        "!!binary x",
        "!!set {a}",
        "!!bool x",
        "<<: *a",
        "? [a] : b",
        "%YAML 9.9",
        "--- a",
        "...",
        "@",
    ),
    *(
        "\n",
        "\t",
        ",",
        ";",
        ":",
        '"',
        "'",
        "\r",
        "\r\n",
        " ",
        "#",
        "- ",
        "\x00",
        "\x85",
        "{}",
        "[]",
    ),
    *(
        ",,",
        "\n\n",
        "train",
        "test",
        "label",
        "path",
        "split",
        "seed",
        "OPTIM:\n",
        "LR: 1",
        '"a":1,',
    ),
]
ODD_BYTES = [
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00",
    b"\xed\xa0\x80",
    b"\r",
    b"\x1a",
    b"\xc3",
]


def spots(tree, path=()):
    """Every place in a tree of dicts and lists."""
    yield path
    if not isinstance(tree, (dict, list)):
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from spots(value, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def mutate_tree(tree, rng):
    """A copy in which a value or two are dropped, doubled, exchanged, or of another kind."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 2)):
        places = list(spots(tree))
        path = rng.choice(places)
        if not path:
            continue
        holder, key = at(tree, path[:-1]), path[-1]
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = copy.deepcopy(at(tree, rng.choice(places)))
        elif kind == 2 and isinstance(holder, list):
            holder.insert(rng.randint(0, len(holder)), copy.deepcopy(holder[key]))
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice(["", "a", str(key).lower(), f"{key} "])] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return tree


def mutate_text(text, rng):
    """Odd words for parts of a text, or lines exchanged, doubled or left out."""
    for _ in range(rng.randint(1, 2)):
        start = rng.randint(0, len(text))
        end = rng.choice([start, min(len(text), start + rng.randint(1, 12))])
        lines = text.split("\n")
        one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            lines[one], lines[two] = lines[two], lines[one]
        elif kind == 1:
            lines.insert(one, lines[two])
        elif kind == 2:
            del lines[one]
        text = text[:start] + rng.choice(ODD_TEXT) + text[end:] if kind == 3 else "\n".join(lines)
    return text


def mutate_bytes(data, rng):
    """One to three bits, cuts, odd bytes, another encoding or other line ends."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, max(0, len(data) - 1))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[start : start + rng.randint(0, 3)] = rng.choice(ODD_BYTES)
        elif kind == 2:
            del data[start : start + rng.choice([1, 5, 10**6])]
        elif kind == 3:
            data[:0] = rng.choice(ODD_BYTES)
        elif kind == 4:
            data = data.replace(b"\n", rng.choice([b"\r\n", b"\r", b""]))
        else:
            data = bytearray(bytes(data).decode("latin-1").encode(rng.choice(["utf-16", "utf-8"])))
    return bytes(data)
