"""Bloom filter: which keys there surely are not.

1. What was added is always found. Of all other keys ``error_rate`` are found as well once
   ``capacity`` are in; fewer before that, more beyond.
2. For n keys and an error rate p there are ``m = ceil(-n * ln p / (ln 2)**2)`` bits, and each key
   sets ``k = round(m / n * ln 2)`` of them, at least 1.
3. The places come from one digest of 128 bits by double hashing, ``place += step``. Keys that agree
   in both would share all bits, and in a small filter many do. So the step itself is moved by a
   third number, and that by the round, which also keeps a step of 0 from staying in one place.
4. The digest knows nothing of the process: what one wrote, another reads.
5. A key is a str, bytes or an int, and the digest begins with which: "1", b"1" and 1 are three.
6. One thread at a time adds, while any number look: `|=` on a byte is a read and a write, and two
   threads between them may lose a bit. What sets a bit in one step needs a byte for each.

Triple hashing and its rounds are of P. C. Dillinger and P. Manolios, "Bloom filters in
probabilistic verification" (2004). The file is longer than most, since half of it reads what may be
damaged.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NoReturn, final

from resilient._core.checks import check_int, check_number, refuse, refuse_type

Key = str | bytes | int

MOST: Final = 1 << 48
"""Keys: more don't fit in any memory, and up to here floats count them exactly."""

MAGIC: Final = b"RBLM"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBQdQHQ")
"""Magic, version, capacity, error_rate, bits, hashes, and how many bits are set."""

CHECK: Final = 8
"""Bytes of the checksum, which stands last."""

LEAST: Final = HEADER.size + CHECK

numbers: Final = struct.Struct("<QII").unpack
"""Place, step and bend of a digest."""


@final
class BloomFilter:
    """Says of a key that it surely was not added, or that it may have been.

    It never forgets a key, can't list them, and takes the same room however long they are. One
    thread at a time may add or update, while any number ask with ``in``: hold a lock of your own
    where several add, or an added key may be denied.

    Args:
        capacity: keys for which *error_rate* holds, at least 1 and below 2**48. More may be added;
            the error rate then grows.
        error_rate: share of the keys never added that are taken for added once the filter is full,
            above 0 and below 1. It holds from some ten keys on.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument is no number; from ``in``: the key is no str, bytes or int, or is a
            bool.

    Source:
        B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors" (1970);
        A. Kirsch and M. Mitzenmacher, "Less hashing, same performance: building a better Bloom
        filter" (2006).
    """

    __slots__ = ("_array", "_bits", "_capacity", "_error_rate", "_rounds")

    def __init__(self, capacity: int, error_rate: float = 0.01) -> None:
        self._capacity, self._error_rate, self._bits, hashes = _shape(capacity, error_rate)
        self._rounds = range(hashes)
        self._array = bytearray(_in_bytes(self._bits))

    @property
    def capacity(self) -> int:
        """Keys for which the error rate holds."""
        return self._capacity

    @property
    def error_rate(self) -> float:
        """Share of the other keys that are found as well, when the filter is full."""
        return self._error_rate

    @property
    def bits(self) -> int:
        """How many bits there are."""
        return self._bits

    @property
    def hashes(self) -> int:
        """How many bits each key sets."""
        return len(self._rounds)

    @property
    def size_in_bytes(self) -> int:
        """Bytes that the bits take."""
        return len(self._array)

    def add(self, key: Key) -> None:
        """Let *key* be found from now on.

        Raises:
            TypeError: *key* is no str, bytes or int, or is a bool: ``True`` and 1 are equal, and
                would silently be one key.
        """
        array, bits = self._array, self._bits
        place, step, bend = numbers(_digest(key))
        for round_ in self._rounds:
            place %= bits
            array[place >> 3] |= 1 << (place & 7)
            place += step
            step += bend
            bend += round_

    def __contains__(self, key: Key) -> bool:
        # The walk of `add`, written out again: it ends early, and a call for each place costs more.
        array, bits = self._array, self._bits
        place, step, bend = numbers(_digest(key))
        for round_ in self._rounds:
            place %= bits
            if not array[place >> 3] >> (place & 7) & 1:
                return False
            place += step
            step += bend
            bend += round_
        return True

    def update(self, keys: Iterable[Key]) -> None:
        """Add each of *keys*.

        Raises:
            TypeError: one is no key, see `add`. Those before it have been added, and those after it
                have not.
        """
        for key in keys:
            self.add(key)

    def to_bytes(self) -> bytes:
        """The filter as bytes, for `from_bytes` in any process on any machine."""
        head = HEADER.pack(
            MAGIC, VERSION, self._capacity, self._error_rate, self._bits, self.hashes,
            _set_in(self._array),
        )  # fmt: skip
        body = head + self._array
        return body + _check(body)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> BloomFilter:
        """The filter that `to_bytes` was called on.

        Raises:
            ValueError: *data* is damaged or something else; the message says in what.
            TypeError: *data* is no bytes, bytearray or memoryview.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            refuse_type("data", data, "bytes, a bytearray or a memoryview")
        data = bytes(data)
        if len(data) < LEAST:
            _damaged(f"it must have at least {LEAST} bytes, not {len(data)}")
        magic, version, capacity, error_rate, bits, hashes, are_set = HEADER.unpack_from(data)
        if magic != MAGIC:
            _damaged(f"it must begin with {MAGIC!r}, not {magic!r}")
        if version != VERSION:
            _damaged(f"its version must be {VERSION}, not {version}")
        if len(data) != (size := LEAST + _in_bytes(bits)):
            _damaged(f"with {bits} bits it must have {size} bytes, not {len(data)}")
        if data[-CHECK:] != _check(data[:-CHECK]):
            _damaged("its checksum differs")
        *_, m, k = _shape(capacity, error_rate)
        if (bits, hashes) != (m, k):
            _damaged(f"it must have {m} bits and {k} hashes, not {bits} and {hashes}")
        array = data[HEADER.size : -CHECK]
        if _set_in(array) != are_set:
            _damaged(f"{are_set} of its bits must be set, not {_set_in(array)}")
        found = cls(capacity, error_rate)
        found._array[:] = array
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BloomFilter):
            return NotImplemented
        return (
            self._capacity == other._capacity
            and self._error_rate == other._error_rate
            and self._array == other._array
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"BloomFilter(capacity={self._capacity}, error_rate={self._error_rate!r})"


def _shape(capacity: object, error_rate: object) -> tuple[int, float, int, int]:
    """Capacity and error rate, checked, and how many bits and hashes they ask for."""
    n = check_int("capacity", capacity)
    if n >= MOST:
        refuse("capacity", capacity, "a whole number of at least 1 and below 2**48")
    p = check_number("error_rate", error_rate, above=0, below=1)
    bits = math.ceil(-n * math.log(p) / math.log(2) ** 2)
    return n, p, bits, max(1, round(bits / n * math.log(2)))


def _digest(key: object) -> bytes:
    """128 bits of *key*, led by its kind."""
    if isinstance(key, str):
        data = b"s" + key.encode("utf-8", "surrogatepass")  # any str is a key, also half a pair
    elif isinstance(key, bytes):
        data = b"b" + key
    elif isinstance(key, int) and not isinstance(key, bool):
        data = b"i%x" % key  # not decimal, which Python refuses to write of large ones
    else:
        refuse_type("key", key, "a str, bytes or an int, and no bool")
    return blake2b(data, digest_size=16).digest()


def _in_bytes(bits: int) -> int:
    return (bits + 7) // 8


def _set_in(array: bytes | bytearray) -> int:
    return int.from_bytes(array, "little").bit_count()


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=CHECK).digest()


def _damaged(what: str) -> NoReturn:
    raise ValueError(f"data is not what to_bytes() returned: {what}")
