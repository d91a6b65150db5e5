"""Ways to damage bytes, JSON and numbers; all chance comes from a ``random.Random``."""

from __future__ import annotations

import copy
import json
import zlib
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, -(2**63)),
    *(
        "",
        "x",
        "0",
        "../../x",
        "nan",
        "\0",
        "\ud800",
        "a" * 10_000,
        [],
        {},
        [None],
        [[]],
        {"": None},
        [0] * 1000,
        [1, 2],
    ),
)


def damaged(data: bytes, rng: Random, other: bytes = b"") -> tuple[bytes, str]:
    """Bytes with one to three faults, and their names; ``other`` is what may be spliced in."""
    names = []
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        fault = rng.choice(_FAULTS)
        fault(changed, rng, other)
        names.append(fault.__name__.strip("_"))
    if changed == data:
        _flip(changed, rng, other)
        names.append("flip")
    return bytes(changed), "+".join(names)


def _place(data: bytearray, rng: Random) -> int:
    """Mostly anywhere, often near the beginning or the end, where headers are."""
    if not data:
        return 0
    span = min(len(data), rng.choice((64, 512, len(data), len(data))))
    place = rng.randrange(span)
    return place if rng.random() < 0.8 else len(data) - 1 - place


def _flip(data, rng, other):
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data, rng, other):
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))


def _number(data, rng, other):
    place, size = _place(data, rng), rng.choice((2, 4, 4, 8))
    data[place : place + size] = rng.choice(NUMBERS).to_bytes(8, "little")[:size][:: rng.choice((1, -1))]


def _cut(data, rng, other):
    del data[_place(data, rng) :]


def _drop(data, rng, other):
    place = _place(data, rng)
    del data[place : place + rng.choice((1, 2, 4, 16, 512, 4096))]


def _insert(data, rng, other):
    place = _place(data, rng)
    data[place:place] = rng.choice((b"\0", b"\xff", rng.randbytes(4), bytes(512), rng.randbytes(64)))


def _twice(data, rng, other):
    place, size = _place(data, rng), rng.choice((1, 8, 64, 512))
    data[place:place] = data[place : place + size]


def _exchange(data, rng, other):
    a, b = sorted((_place(data, rng), _place(data, rng)))
    size = min(rng.choice((1, 4, 32)), b - a, len(data) - b)
    if size > 0:
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _blank(data, rng, other):
    place = _place(data, rng)
    size = min(rng.choice((4, 16, 512, 4096)), len(data) - place)
    data[place : place + size] = bytes(size)


def _splice(data, rng, other):
    data[_place(data, rng) :] = other[rng.randrange(len(other) + 1) :] if other else b""


def _append(data, rng, other):
    data += rng.choice((b"\0" * 512, rng.randbytes(32), bytes(other[:4096])))


_FAULTS = (_flip, _flip, _flip, _byte, _byte, _number, _number)
_FAULTS += (_cut, _cut, _drop, _insert, _twice, _exchange, _blank, _splice, _append)


def damaged_json(content: Any, rng: Random) -> tuple[Any, str]:
    """A copy of plain values with one or two of them changed, removed, added or renamed."""
    content, names = copy.deepcopy(content), []
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(content))
        if not places or rng.random() < 0.03:
            content = rng.choice(VALUES)
            names.append("another document")
            continue
        parent, key = rng.choice(places)
        action = rng.choice(("value", "value", "value", "number", "remove", "rename", "copy"))
        if action == "value":
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        elif action == "number":
            number = parent[key] if isinstance(parent[key], int | float) else 1
            parent[key] = rng.choice((-number, number + 1, number * 1000, number / 3, str(number), [number]))
        elif action == "remove":
            del parent[key]
        elif action == "rename" and isinstance(parent, dict):
            parent[rng.choice(("x", "", "__class__", "0", f"{key}x", f"{key}.0"))] = parent.pop(key)
        else:
            source, name = rng.choice(places)
            try:
                parent[key] = copy.deepcopy(source[name])
            except (KeyError, IndexError, TypeError):
                parent[key] = None
        names.append(f"{action} of {key!r}")
    return content, ", ".join(names)


def _places(content: Any, depth: int = 0):
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items)[:200]:
        yield content, key
        if depth < 6:
            yield from _places(value, depth + 1)


def as_text(content: Any) -> bytes:
    """JSON as it is found in the wild: NaN and half surrogates included."""
    return json.dumps(content).encode("utf-8", "surrogatepass")


def odd_text(rng: Random) -> tuple[bytes, str]:
    """Text that parsers of JSON and YAML choke on."""
    return rng.choice(
        (
            (b"[" * 100_000, "deep nesting"),
            (b'{"a":' * 100_000, "deep nesting of objects"),
            (b"1" * 10_000, "a long number"),
            (b'{"rows": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
            (b"\xef\xbb\xbf{}", "byte order mark"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\x80abc", "no UTF-8"),
            (b"", "nothing"),
            (b"null", "null"),
            (b"\0" * 4096, "zeros"),
            (b"{} {}", "two documents"),
            (b"a: &a [*a, *a]", "an alias of itself"),
            (_laughs(), "nine levels of aliases"),
            (b"!!python/object/apply:os.system ['touch CANARY']", "a YAML call"),
            (b"{1: 2, [3]: 4}", "keys that are no names"),
            (b"? {a: b}\n: c", "a mapping as a key"),
            (b"a: 1\na: 2", "a name twice"),
            (b"a: 2020-01-01", "a date"),
            (b"key: [1, 2", "an open bracket"),
            (b"\tkey: 1", "a tab"),
        )
    )


def _laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    return "\n".join(lines).encode()


def zeros_deflated(megabytes: int, raw: bool = False) -> bytes:
    """A deflate stream (zlib's, or a raw one) of so many megabytes of zeros, made without having them in memory."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15 if raw else 15)
    block = bytes(2**20)
    first = stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH)
    again = stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1) + stream.flush()  # after a full flush each block is the same
