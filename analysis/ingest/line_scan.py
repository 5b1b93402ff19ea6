"""Find the numbers, times, and identifiers of many lines in one compiled pass over their bytes. No I/O.

A *token* is a word of a class below. A *word* is a run of letters, digits, `.`, `_`, and `+`, with a minus sign where
one begins a number. The *shape* of a line is a hash of all its bytes with each token replaced by its class: lines of
one shape differ in the values of their tokens alone. The hash has 64 bits: two of a thousand shapes are taken for
one with a probability of 3e-14.

The classes are narrow on purpose: whatever a reader of JSON or of text decides by the form of a value has to come out
the same for every value of a class. Words that could be read in two ways belong to no class and stay in the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled

OTHER: Final = 0
INTEGER: Final = 1  # up to 9 digits, so that 32 bits hold it; no leading zero, no "-0"
LONG_INTEGER: Final = 2  # 10 to 15 digits: exact as a float
HUGE_INTEGER: Final = 3  # 17 digits or more: above 2**53. Of 16 digits, some are and some are not: in no class
PADDED_INTEGER: Final = 4  # digits with a leading zero: no number in JSON
DECIMAL: Final = 5  # digits, a point, and digits, up to 40 of them
UUID: Final = 6  # in lower case
HEXADECIMAL: Final = 7  # 8 lower-case digits or more, with one of a, b, c, d, f: never a number such as 1e5
TIME: Final = 8  # 2026-11-24T10:00:00.000Z

_DIGIT: Final = 1
_HEX: Final = 2  # lower case
_WORD: Final = 4
_LETTER: Final = 8  # a hexadecimal letter that no number holds


def _classes() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    for characters, flag in (
        (b"0123456789", _DIGIT | _HEX | _WORD),
        (b"abcdef", _HEX),
        (b"abcdf", _LETTER),
        (b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._+", _WORD),
        (bytes(range(128, 256)), _WORD),
    ):
        table[np.frombuffer(characters, dtype=np.uint8)] |= flag
    return table


_TABLE: Final = _classes()
_TENS: Final = 10.0 ** np.arange(16)
_DAYS_BEFORE: Final = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
# Of the hash: an odd factor with its bits spread evenly, the golden ratio's.
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SEED: Final = np.uint64(0x9E3779B97F4A7C15)
_NEWLINE, _BACKSLASH, _MINUS, _POINT, _ZERO = (ord(character) for character in "\n\\-.0")
_UUID_BYTES: Final = 36
_TIME_BYTES: Final = 24
_TIME_FORM: Final = np.frombuffer(b"0000-00-00T00:00:00.000Z", dtype=np.uint8)
_MOST_DIGITS: Final = 40
_EXACT_DIGITS: Final = 15
_SHORT_DIGITS: Final = 9
_SHORTEST_HEXADECIMAL: Final = 8


@compiled
def _number_at(data: Any, start: int, length: int) -> Any:
    value = np.int64(0)
    for place in range(start, start + length):
        value = value * 10 + np.int64(data[place]) - _ZERO
    return value


@compiled
def _ends_word(data: Any, place: int) -> bool:
    return place >= len(data) or (not _TABLE[data[place]] & _WORD and data[place] != _MINUS)


@compiled
def _is_uuid(data: Any, start: int) -> bool:
    if start + _UUID_BYTES > len(data):
        return False
    for place in range(_UUID_BYTES):
        byte = data[start + place]
        if place in (8, 13, 18, 23):
            if byte != _MINUS:
                return False
        elif not _TABLE[byte] & _HEX:
            return False
    return _ends_word(data, start + _UUID_BYTES)


@compiled
def _seconds_of_time(data: Any, start: int) -> Any:
    """Return the seconds since the epoch of a time in the form of `TIME`; -1.0 where there is none since 1970."""
    if start + _TIME_BYTES > len(data):
        return -1.0
    for place in range(_TIME_BYTES):
        form, byte = _TIME_FORM[place], data[start + place]
        is_alike = bool(_TABLE[byte] & _DIGIT) if form == _ZERO else form == byte
        if not is_alike:
            return -1.0
    if not _ends_word(data, start + _TIME_BYTES):
        return -1.0
    year, month, day = _number_at(data, start, 4), _number_at(data, start + 5, 2), _number_at(data, start + 8, 2)
    hour, minute, second = (
        _number_at(data, start + 11, 2),
        _number_at(data, start + 14, 2),
        _number_at(data, start + 17, 2),
    )
    if year < 1970 or month < 1 or month > 12 or hour > 23 or minute > 59 or second > 59:
        return -1.0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days_of_month = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (1 if leap and month == 2 else 0)
    if day < 1 or day > days_of_month:
        return -1.0
    before = year - 1
    days = 365 * (year - 1970) + (before // 4 - before // 100 + before // 400) - 477
    days += _DAYS_BEFORE[month - 1] + (1 if leap and month > 2 else 0) + day - 1
    whole = ((days * 24 + hour) * 60 + minute) * 60 + second
    return (whole * 1000 + _number_at(data, start + 20, 3)) / 1000.0


@compiled
def _read_number(data: Any, start: int, stop: int) -> tuple[int, float]:
    """Return the class and the value of a word that is a number; `OTHER` where it is none."""
    first = start + 1 if data[start] == _MINUS else start
    digits = fraction = 0
    has_point = False
    mantissa = np.int64(0)
    for place in range(first, stop):
        if _TABLE[data[place]] & _DIGIT:
            digits += 1
            fraction += 1 if has_point else 0
            if digits <= _EXACT_DIGITS:
                mantissa = mantissa * 10 + np.int64(data[place]) - _ZERO
        elif data[place] == _POINT and not has_point and digits > 0:
            has_point = True
        else:
            return OTHER, np.nan
    sign = -1.0 if first > start else 1.0
    is_exact = digits <= _EXACT_DIGITS
    is_padded = data[first] == _ZERO and digits - fraction > 1
    if has_point:
        if is_padded or fraction == 0 or digits > _MOST_DIGITS:
            return OTHER, np.nan
        # Both are exact as floats, so the quotient is rounded once, as a parser of decimals rounds.
        return DECIMAL, sign * (mantissa / _TENS[fraction]) if is_exact else np.nan
    if first > start and (is_padded or not is_exact or mantissa == 0):
        return OTHER, np.nan
    if is_padded:
        return PADDED_INTEGER, np.nan
    if is_exact:
        return (INTEGER if digits <= _SHORT_DIGITS else LONG_INTEGER), sign * mantissa
    return (HUGE_INTEGER if digits > _EXACT_DIGITS + 1 else OTHER), np.nan


@compiled
def _is_hexadecimal(data: Any, start: int, stop: int) -> bool:
    has_letter = False
    for place in range(start, stop):
        flags = _TABLE[data[place]]
        if not flags & _HEX:
            return False
        has_letter = has_letter or bool(flags & _LETTER)
    return has_letter and stop - start >= _SHORTEST_HEXADECIMAL


@compiled
def _classify(data: Any, start: int, stop: int) -> tuple[int, int, float]:
    """Return the class of the word from `start`, where its token ends, and its value; NaN where it is not exact."""
    if stop - start == 8 and _is_uuid(data, start):
        return UUID, start + _UUID_BYTES, np.nan
    if stop - start == 4 and stop < len(data) and data[stop] == _MINUS:
        seconds = _seconds_of_time(data, start)
        if seconds >= 0.0:
            return TIME, start + _TIME_BYTES, seconds
    kind, value = _read_number(data, start, stop)
    if kind == OTHER and _is_hexadecimal(data, start, stop):
        kind = HEXADECIMAL
    return kind, stop, value


@compiled
def _mix(shape: Any, data: Any, start: int, stop: int) -> Any:
    """Return the hash of a line, taken on by the bytes from `start` to `stop`, eight at a time."""
    place = start
    while place + 8 <= stop:
        eight = np.uint64(0)
        for offset in range(8):
            eight |= np.uint64(data[place + offset]) << np.uint64(8 * offset)
        shape = (shape ^ eight) * _FACTOR
        shape ^= shape >> np.uint64(32)
        place += 8
    for rest in range(place, stop):
        shape = (shape ^ np.uint64(data[rest])) * _FACTOR
        shape ^= shape >> np.uint64(32)
    return shape


@compiled
def _scan(
    data: Any, ends: Any, shapes: Any, counts: Any, kinds: Any, starts: Any, stops: Any, values: Any
) -> tuple[int, int]:
    line = token = 0
    place: Any = np.int64(0)  # a literal would be a type of its own: all that is called with it, compiled twice
    mixed: Any = np.int64(0)  # how far the bytes of the line are in its hash
    shape = _SEED
    previous = _NEWLINE
    while place < len(data):
        byte = data[place]
        is_word = bool(_TABLE[byte] & _WORD)
        if byte == _MINUS and not _TABLE[previous] & _WORD and place + 1 < len(data):
            is_word = bool(_TABLE[data[place + 1]] & _DIGIT)
        if not is_word:
            if byte == _NEWLINE:
                ends[line], counts[line] = place, token
                shapes[line] = _mix(shape, data, mixed, place)
                line += 1
                shape, mixed = _SEED, place + 1
            previous = byte
            place += 1
            continue
        stop = place + 1
        while stop < len(data) and _TABLE[data[stop]] & _WORD:
            stop += 1
        # After a backslash a word is or may be part of an escape.
        if (byte == _MINUS or _TABLE[byte] & _HEX) and previous != _BACKSLASH:
            kind, stop, value = _classify(data, place, stop)
            if kind != OTHER:
                shape = (_mix(shape, data, mixed, place) ^ np.uint64(256 + kind)) * _FACTOR
                mixed = stop
                kinds[token], starts[token], stops[token], values[token] = kind, place, stop, value
                token += 1
        previous = data[stop - 1]
        place = stop
    return line, token


@dataclass(frozen=True)
class Scan:
    """The lines of a text and their tokens; places are bytes from the start of the text.

    Line k ends before `ends[k]` and has the tokens from `firsts[k]` up to `firsts[k + 1]`.
    """

    ends: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.uint64]
    firsts: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]  # of integers, times (seconds since the epoch), and decimals of up to 15 digits

    def line(self, number: int) -> slice:
        """Return where a line is, without its newline."""
        return slice(int(self.ends[number - 1]) + 1 if number else 0, int(self.ends[number]))


def scan(text: bytes) -> Scan:
    """Find the tokens of all lines of a text; the last line has to end with a newline as well."""
    data = np.frombuffer(text, dtype=np.uint8)
    # Memory that is never written to is never taken: every second byte could begin a token, one in twenty does.
    room = len(data) // 2 + 1
    ends, firsts = np.empty(len(data), dtype=np.int64), np.zeros(len(data) + 1, dtype=np.int64)
    shapes = np.empty(len(data), dtype=np.uint64)
    kinds, values = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.float64)
    starts, stops = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    lines, found = _scan(data, ends, shapes, firsts[1:], kinds, starts, stops, values)
    return Scan(
        ends[:lines], shapes[:lines], firsts[: lines + 1], kinds[:found], starts[:found], stops[:found], values[:found]
    )
