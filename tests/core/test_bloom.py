"""The Bloom filter: what it never denies, how often it errs, and the bytes it is kept in."""

from __future__ import annotations

import math
import os
import re
import struct
import subprocess
import sys
from enum import IntEnum, StrEnum
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilient
from resilient._core.bloom import BloomFilter, Key

NEARLY_1 = 1 - 2**-53
keys = st.text(st.characters()) | st.binary() | st.integers()
SOUND = bytes.fromhex(
    "52424c4d0104000000000000009a9999999999b93f14000000"
    "000000000300070000000000000099b000ce60b43b0f029e64"
)
"""Four keys at 0.1: 20 bits and 3 hashes; "1", b"1" and 1 are in, which set 7 bits."""


def sound() -> BloomFilter:
    made = BloomFilter(4, 0.1)
    made.update(["1", b"1", 1])
    return made


def sure() -> BloomFilter:
    """One that is never wrong, as far as a test can see."""
    return BloomFilter(1000, 1e-12)


def sealed(head: tuple[Any, ...], array: bytes) -> bytes:
    """What a program that is mistaken, and not damaged, would have written."""
    body = struct.pack("<4sBQdQHQ", *head) + array
    return body + blake2b(body, digest_size=8).digest()


# Sizes.


@pytest.mark.parametrize(
    ("capacity", "error_rate", "bits", "hashes", "size"),
    [
        (1_000_000, 0.01, 9_585_059, 7, 1_198_133),
        (1_000_000, 0.0001, 19_170_117, 13, 2_396_265),
        (20_000, 0.001, 287_552, 10, 35_944),
        (1000, 0.5, 1443, 1, 181),
        (1000, 0.9, 220, 1, 28),
        (1000, NEARLY_1, 1, 1, 1),
        (2**48 - 1, NEARLY_1, 1, 1, 1),
        (3, 0.3, 8, 2, 1),
        (1, 0.01, 10, 7, 2),
        (1, 5e-324, 1550, 1074, 194),
    ],
)
def test_bits_and_hashes_are_those_of_the_textbook(
    capacity: int, error_rate: float, bits: int, hashes: int, size: int
) -> None:
    made = BloomFilter(capacity, error_rate)
    assert (made.capacity, made.error_rate) == (capacity, error_rate)
    assert (made.bits, made.hashes, made.size_in_bytes) == (bits, hashes, size)


def test_one_in_a_hundred_is_the_default() -> None:
    assert BloomFilter(1000).error_rate == 0.01
    assert BloomFilter(1000).bits == 9586


@pytest.mark.parametrize("name", ["capacity", "error_rate", "bits", "hashes", "size_in_bytes"])
def test_its_sizes_are_for_good(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(BloomFilter(1000), name, 1)


# What it finds.


@given(
    added=st.lists(keys, max_size=60), capacity=st.integers(1, 40), error_rate=st.floats(0.001, 0.9)
)
def test_what_was_added_is_always_found(added: list[Key], capacity: int, error_rate: float) -> None:
    made = BloomFilter(capacity, error_rate)
    for so_far, key in enumerate(added, 1):
        made.add(key)
        assert all(one in made for one in added[:so_far])


def test_nothing_is_found_in_an_empty_one() -> None:
    assert not any(key in BloomFilter(1, 0.9) for key in range(100))


def test_the_answer_is_yes_or_no_also_when_asked_as_a_predicate() -> None:
    ask = sound().__contains__
    assert ask("1") is True
    assert ask("2") is False


@pytest.mark.parametrize(
    ("capacity", "error_rate", "probes"),
    [(10_000, 0.1, 50_000), (10_000, 0.01, 100_000), (20_000, 0.001, 300_000)],
)
def test_a_full_one_errs_as_often_as_asked(capacity: int, error_rate: float, probes: int) -> None:
    made = BloomFilter(capacity, error_rate)
    made.update(range(capacity))
    wrong = sum(key in made for key in range(capacity, capacity + probes))
    assert 0.8 < wrong / probes / error_rate < 1.2


def test_a_small_one_errs_as_often_as_asked() -> None:
    """Where two numbers alone leave so few ways to walk that many keys share all bits."""
    wrong = 0
    for first in range(0, 400_000, 400):
        made = BloomFilter(20, 0.001)
        made.update(range(first, first + 20))
        wrong += sum(key in made for key in range(first + 20, first + 400))
    assert 0.8 < wrong / (1000 * 380) / 0.001 < 1.2


def test_one_that_holds_too_many_errs_more_and_denies_none() -> None:
    made = BloomFilter(1000)
    made.update(range(2000))
    assert all(key in made for key in range(2000))
    wrong = sum(key in made for key in range(2000, 22_000)) / 20_000
    assert wrong == pytest.approx((1 - math.exp(-7 * 2000 / 9586)) ** 7, rel=0.2)


def test_a_step_of_nothing_does_not_stay_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient._core.bloom._digest", lambda key: bytes(16))
    made = BloomFilter(1000)
    made.add("any")
    array = int.from_bytes(made.to_bytes()[39:-8], "little")
    assert [at for at in range(made.bits) if array >> at & 1] == [0, 1, 5, 15]
    assert "any" in made


# Keys.


@pytest.mark.parametrize(
    "alike",
    [
        ("1", b"1", 1),
        ("-1", b"-1", -1),
        ("", b"", 0),
        ("s1", "b1", "i1", b"s1", b"b1", b"i1"),
        (1, -1, 16, 10, 0x1_0000, 2**64, -(2**64), 2**64 + 1, 2**128),
        (10**5000, -(10**5000), 10**5000 + 1),
        ("\ud800", "\udc00", "\ud800\udc00", "\U00010000", "�", "?"),
        ("\x00", "\x00\x00", b"\x00", b"\x00\x00"),
        ("é", "e\u0301", "é".encode()),
    ],
    ids=["kinds", "negative", "empty", "tags", "ints", "long", "pairs", "zeros", "accents"],
)
def test_keys_that_look_alike_are_not_the_same(alike: tuple[Key, ...]) -> None:
    for one, other in [*combinations(alike, 2), *combinations(reversed(alike), 2)]:
        made = sure()
        made.add(one)
        assert one in made
        assert other not in made


class Colour(IntEnum):
    RED = 1


class Name(StrEnum):
    ONE = "1"


class Raw(bytes):
    __slots__ = ()


@pytest.mark.parametrize(("one", "same"), [(Colour.RED, 1), (Name.ONE, "1"), (Raw(b"1"), b"1")])
def test_keys_that_are_equal_are_the_same(one: Key, same: Key) -> None:
    made = sure()
    made.add(one)
    assert same in made


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    "key", [None, True, False, 1.0, (1, "a"), bytearray(b"1"), memoryview(b"1"), object]
)
def test_what_is_no_key_is_refused(key: Any) -> None:
    words = f"key must be a str, bytes or an int, and no bool, not {key!r}"
    made = sure()
    for ask in (made.add, made.__contains__, lambda key: made.update([key])):
        with pytest.raises(TypeError) as refused:
            ask(key)
        assert str(refused.value).startswith(words)
    assert made == sure()


def test_an_update_that_meets_a_bad_key_has_added_those_before_it() -> None:
    made = sure()
    mixed: list[Any] = [1, 2, None, 3]
    with pytest.raises(TypeError):
        made.update(iter(mixed))
    assert [key in made for key in (1, 2, 3)] == [True, True, False]


# Arguments.


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0,), ValueError, "capacity must be a whole number of at least 1, not 0"),
        ((-1,), ValueError, "capacity must be a whole number of at least 1, not -1"),
        ((1.0,), TypeError, "capacity must be a whole number of at least 1, not 1.0"),
        ((True,), TypeError, "capacity must be a whole number of at least 1, not True"),
        (
            (2**48, NEARLY_1),
            ValueError,
            f"capacity must be a whole number of at least 1 and below 2**48, not {2**48}",
        ),
        ((1, 0.0), ValueError, "error_rate must be a finite number above 0 and below 1, not 0.0"),
        ((1, 1.0), ValueError, "error_rate must be a finite number above 0 and below 1, not 1.0"),
        ((1, 1), ValueError, "error_rate must be a finite number above 0 and below 1, not 1.0"),
        ((1, -0.1), ValueError, "error_rate must be a finite number above 0 and below 1, not -0.1"),
        (
            (1, math.nan),
            ValueError,
            "error_rate must be a finite number above 0 and below 1, not nan",
        ),
        ((1, "0.1"), TypeError, "error_rate must be a number above 0 and below 1, not '0.1'"),
        ((1, None), TypeError, "error_rate must be a number above 0 and below 1, not None"),
    ],
)
def test_arguments_out_of_range_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        BloomFilter(*arguments)
    assert str(refused.value).startswith(words)


# Bytes.


def test_its_bytes_are_the_same_in_each_release() -> None:
    assert sound().to_bytes() == SOUND
    assert BloomFilter.from_bytes(SOUND) == sound()


@given(
    added=st.lists(keys, max_size=20),
    capacity=st.integers(1, 30),
    error_rate=st.floats(0.001, 0.999),
)
def test_its_bytes_give_it_back(added: list[Key], capacity: int, error_rate: float) -> None:
    made = BloomFilter(capacity, error_rate)
    made.update(added)
    again = BloomFilter.from_bytes(made.to_bytes())
    assert again == made
    assert again.to_bytes() == made.to_bytes()
    assert (again.bits, again.hashes) == (made.bits, made.hashes)
    assert all(key in again for key in added)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_given_back_is_one_of_its_own(kind: Any) -> None:
    data = kind(sound().to_bytes())
    again = BloomFilter.from_bytes(data)
    again.update(range(10))
    assert 9 in again
    assert again != sound()
    assert bytes(data) == sound().to_bytes()


HEAD = (b"RBLM", 1, 4, 0.1, 20, 3, 7)
ARRAY = bytes.fromhex("99b000")


def test_the_damaged_ones_below_differ_from_a_sound_one_in_one_thing() -> None:
    assert sealed(HEAD, ARRAY) == SOUND


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it must have at least 47 bytes, not 0"),
        (SOUND[:46], "it must have at least 47 bytes, not 46"),
        (SOUND[:47], "with 20 bits it must have 50 bytes, not 47"),
        (SOUND[:-1], "with 20 bits it must have 50 bytes, not 49"),
        (SOUND + b"\n", "with 20 bits it must have 50 bytes, not 51"),
        (sealed((b"PK\x03\x04", *HEAD[1:]), ARRAY),
         r"it must begin with b'RBLM', not b'PK\x03\x04'"),
        (sealed((b"RBLM", 2, *HEAD[2:]), ARRAY), "its version must be 1, not 2"),
        (sealed(HEAD, ARRAY)[:-1] + b"\x00", "its checksum differs"),
        (sealed((*HEAD[:4], 2**63, 3, 7), ARRAY),
         f"with {2**63} bits it must have {2**60 + 47} bytes, not 50"),
        (sealed((*HEAD[:4], 21, 3, 7), ARRAY), "it must have 20 bits and 3 hashes, not 21 and 3"),
        (sealed((*HEAD[:5], 4, 7), ARRAY), "it must have 20 bits and 3 hashes, not 20 and 4"),
        (
            sealed((b"RBLM", 1, 2**40, *HEAD[3:]), ARRAY),
            "it must have 5269441569414 bits and 3 hashes, not 20 and 3",
        ),
        (sealed((*HEAD[:6], 6), ARRAY), "6 of its bits must be set, not 7"),
    ],
    ids=range(13),
)  # fmt: skip
def test_bytes_that_are_damaged_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        BloomFilter.from_bytes(data)
    assert str(refused.value) == f"data is not what to_bytes() returned: {words}"


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("head", "words"),
    [
        ((b"RBLM", 1, 0, *HEAD[3:]), "capacity must be a whole number of at least 1, not 0"),
        ((*HEAD[:3], math.nan, *HEAD[4:]), "error_rate must be a finite number above 0"),
        ((*HEAD[:3], 1.0, *HEAD[4:]), "error_rate must be a finite number above 0"),
    ],
    ids=["capacity", "nan", "one"],
)
def test_bytes_of_what_no_filter_can_be_are_refused(head: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        BloomFilter.from_bytes(sealed(head, ARRAY))


@given(at=st.integers(0, 50 * 8 - 1))
def test_no_bit_can_turn_unnoticed(at: int) -> None:
    data = bytearray(SOUND)
    data[at // 8] ^= 1 << at % 8
    with pytest.raises(ValueError, match=r"^data is not what to_bytes\(\) returned: "):
        BloomFilter.from_bytes(data)


@pytest.mark.rule("F7")
@pytest.mark.parametrize("data", ["RBLM", None, 50, [82, 66, 76, 77], BloomFilter])
def test_what_is_no_bytes_is_refused(data: Any) -> None:
    words = f"data must be bytes, a bytearray or a memoryview, not {data!r}"
    with pytest.raises(TypeError) as refused:
        BloomFilter.from_bytes(data)
    assert str(refused.value).startswith(words)


WRITE = """
import sys
from resilient._core.bloom import BloomFilter

made = BloomFilter(300)
for n in range(100):
    made.update([n, str(n), b"%d" % n])
sys.stdout.write(f"{hash('1')} {made.to_bytes().hex()}")
"""


@pytest.mark.real_clock
def test_another_process_reads_what_one_wrote() -> None:
    package = str(Path(resilient.__file__).parent.parent)
    wrote: list[list[str]] = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", WRITE],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": package},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        wrote.append(done.stdout.split())
    assert wrote[0][0] != wrote[1][0], "the seeds must differ for the test to say anything"
    assert wrote[0][1] == wrote[1][1]
    again = BloomFilter.from_bytes(bytes.fromhex(wrote[0][1]))
    assert all(key in again for n in range(100) for key in (n, str(n), b"%d" % n))
    assert sum(n in again for n in range(100, 1100)) < 30


# What it is to others.


def test_equal_are_those_of_the_same_sizes_and_bits() -> None:
    assert sound() == sound()
    assert BloomFilter(4, 0.1) == BloomFilter(4, 0.1)
    assert sound() != BloomFilter(4, 0.1)
    assert BloomFilter(4, 0.1) != BloomFilter(4, math.nextafter(0.1, 1))  # as many bits
    assert BloomFilter(4, NEARLY_1) != BloomFilter(5, NEARLY_1)


def test_what_is_no_filter_is_not_equal_and_may_say_so_itself() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert sound() != sound().to_bytes()
    assert sound() == Equal()


def test_the_order_of_adding_leaves_no_trace() -> None:
    one, other = sure(), sure()
    one.update(["a", b"a", 7, 7])
    other.update([7, "a", b"a"])
    assert one == other
    assert one.to_bytes() == other.to_bytes()


def test_it_changes_and_so_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(sound())


def test_it_shows_what_it_was_made_with() -> None:
    assert repr(BloomFilter(1000)) == "BloomFilter(capacity=1000, error_rate=0.01)"
    assert repr(BloomFilter(7, 1 / 3)) == f"BloomFilter(capacity=7, error_rate={1 / 3!r})"


def test_nothing_else_hangs_on_it() -> None:
    with pytest.raises(AttributeError):
        BloomFilter(1).note = ""  # type: ignore[attr-defined]
