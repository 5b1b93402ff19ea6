"""Find the numbers, times, and identifiers of many lines in compiled passes over their bytes. No I/O.

A *token* is a word of a class below. A *word* is a run of letters, digits, `.`, `_`, and `+`, with a minus sign where
one begins a number. The *shape* of a line is a hash of all its bytes with each token replaced by its class: lines of
one shape differ in the values of their tokens alone. The hash has 64 bits: two of a thousand shapes are taken for
one with a probability of 3e-14. Shapes that are known are told without the hash, by comparing the text around the
tokens, which takes a fourth of the time.

The classes are narrow on purpose: whatever a reader of JSON or of text decides by the form of a value has to come out
the same for every value of a class. Words that could be read in two ways belong to no class and stay in the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled, inlined

OTHER: Final = 0
INTEGER: Final = 1  # up to 9 digits, so that 32 bits hold it; no leading zero, no "-0"
LONG_INTEGER: Final = 2  # 10 to 15 digits: exact as a float
HUGE_INTEGER: Final = 3  # 17 digits or more: above 2**53. Of 16 digits, some are and some are not: in no class
PADDED_INTEGER: Final = 4  # digits with a leading zero: no number in JSON
DECIMAL: Final = 5  # digits, a point, and digits, up to 40 of them
UUID: Final = 6  # in lower case
HEXADECIMAL: Final = 7  # 8 lower-case digits or more that are no number: not as 12345678, and not as 12345e67
TIME: Final = 8  # 2026-11-24T10:00:00.000Z
EXPONENTIAL: Final = 9  # 12345e67, of 8 characters or more: an identifier or a number
PADDED_EXPONENTIAL: Final = 10  # 00005e67: an identifier, and no number in JSON

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
_TENS: Final = np.array([float(f"1e{power}") for power in range(23)])  # all that are exact as floats
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
_HELD_DIGITS: Final = 18  # that 64 bits hold
_LARGEST_EXACT: Final = 2**53
_SHORT_DIGITS: Final = 9
_SHORTEST_HEXADECIMAL: Final = 8


@inlined
def _number_at(data: Any, start: int, length: int) -> Any:
    value = np.int64(0)
    for place in range(start, start + length):
        value = value * 10 + np.int64(data[place]) - _ZERO
    return value


@inlined
def _are_digits(eight: Any) -> bool:
    """Return whether eight bytes are digits: 0x30 to 0x39, so that 6 more leaves the upper half of each as it is."""
    upper = np.uint64(0xF0F0F0F0F0F0F0F0)
    sixes = np.uint64(0x0606060606060606)
    return bool((eight & upper) | (((eight + sixes) & upper) >> np.uint64(4)) == np.uint64(0x3333333333333333))


@inlined
def _value_of_digits(eight: Any) -> Any:
    """Return the number that eight digits write: pairs are put together, then fours, then all."""
    pairs = (eight & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(10 * 2**8 + 1) >> np.uint64(8)
    fours = (pairs & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1) >> np.uint64(16)
    return np.int64((fours & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10_000 * 2**32 + 1) >> np.uint64(32))


@inlined
def _are_hexadecimal(eight: Any) -> bool:
    """Return whether eight bytes are digits or lower-case letters up to f.

    Adding to a byte below 128 sets its highest bit where it is above a bound, and taking from one with that bit leaves
    it where the byte is not below a bound.
    """
    high = np.uint64(0x8080808080808080)
    above_9 = eight + np.uint64(0x4646464646464646)
    above_f = eight + np.uint64(0x1919191919191919)
    from_0 = (eight | high) - np.uint64(0x3030303030303030)
    from_a = (eight | high) - np.uint64(0x6161616161616161)
    return bool(((above_9 & ~from_a) | above_f | ~from_0 | eight) & high == 0)


@inlined
def _is_uuid(data: Any, eights: Any, start: int) -> bool:
    """Return whether a UUID of 8, 4, 4, 4, and 12 digits begins here; a dash replaced by a digit is one of eight."""
    if data[start + 8] != _MINUS or data[start + 13] != _MINUS or data[start + 18] != _MINUS:
        return False
    if data[start + 23] != _MINUS or not _are_hexadecimal(eights[start]):
        return False
    # The dash is the first byte of these eight, and the sixth.
    second = eights[start + 8] ^ np.uint64((_MINUS ^ _ZERO) * (1 + 2**40))
    third = eights[start + 16] ^ np.uint64((_MINUS ^ _ZERO) * (2**16 + 2**56))
    if not _are_hexadecimal(second) or not _are_hexadecimal(third):
        return False
    last = _are_hexadecimal(eights[start + 24]) and _are_hexadecimal(eights[start + _UUID_BYTES - 8])
    return last and _ends_word(data, start + _UUID_BYTES)


@inlined
def _ends_word(data: Any, place: int) -> bool:
    return not _TABLE[data[place]] & _WORD and data[place] != _MINUS


@inlined
def _seconds_of_time(data: Any, start: int) -> Any:
    """Return the seconds since the epoch of a time in the form of `TIME`; -1.0 where there is none since 1970."""
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


@inlined
def _number(data: Any, eights: Any, start: int) -> tuple[int, int, float]:
    """Return the class and the value of a number and where it ends; `OTHER` where the word is none."""
    first = start + 1 if data[start] == _MINUS else start
    digits = whole_digits = 0
    has_point = False
    mantissa = np.int64(0)
    place = first
    while True:
        if _are_digits(eights[place]):
            if digits <= _HELD_DIGITS - 8:
                mantissa = mantissa * 100_000_000 + _value_of_digits(eights[place])
            digits += 8
            place += 8
        elif _TABLE[data[place]] & _DIGIT:
            if digits < _HELD_DIGITS:
                mantissa = mantissa * 10 + np.int64(data[place]) - _ZERO
            digits += 1
            place += 1
        elif data[place] == _POINT and not has_point and digits > 0:
            has_point = True
            whole_digits = digits
            place += 1
        else:
            break
    if _TABLE[data[place]] & _WORD:
        return OTHER, place, np.nan
    kind, value = _class_of_number(digits, whole_digits if has_point else -1, mantissa, data[first] == _ZERO)
    if first == start:
        return kind, place, value
    # A negative number with a leading zero, or of no exact value, is in no class, "-0" included.
    is_sound = kind == DECIMAL or (kind in (INTEGER, LONG_INTEGER) and mantissa != 0)
    return (kind if is_sound else OTHER), place, -value


@inlined
def _class_of_number(digits: int, whole_digits: int, mantissa: Any, has_zero_first: bool) -> tuple[int, float]:
    """Return class and value of a number of so many digits; `whole_digits` are before its point, -1 without one."""
    if whole_digits >= 0:
        if digits == whole_digits or digits > _MOST_DIGITS or (has_zero_first and whole_digits > 1):
            return OTHER, np.nan
        # Both are exact as floats, so the quotient is rounded once, as a parser of decimals rounds.
        is_exact = digits <= _HELD_DIGITS and mantissa <= _LARGEST_EXACT
        return DECIMAL, mantissa / _TENS[digits - whole_digits] if is_exact else np.nan
    if has_zero_first and digits > 1:
        return PADDED_INTEGER, np.nan
    if digits <= _EXACT_DIGITS:
        return (INTEGER if digits <= _SHORT_DIGITS else LONG_INTEGER), np.float64(mantissa)
    return (HUGE_INTEGER if digits > _EXACT_DIGITS + 1 else OTHER), np.nan


@inlined
def _hexadecimal(data: Any, eights: Any, start: int) -> tuple[int, int]:
    """Return the class of a word that starts here and is not one of `_number`, and where the word ends."""
    place = start
    while _are_hexadecimal(eights[place]):
        place += 8
    while _TABLE[data[place]] & _HEX:
        place += 1
    is_long = place - start >= _SHORTEST_HEXADECIMAL
    if _TABLE[data[place]] & _WORD or not is_long:
        while _TABLE[data[place]] & _WORD:
            place += 1
        return OTHER, place
    exponents, at = 0, start
    for letter in range(start, place):
        if _TABLE[data[letter]] & _LETTER:
            return HEXADECIMAL, place
        if not _TABLE[data[letter]] & _DIGIT:
            exponents, at = exponents + 1, letter
    if exponents == 0:
        return OTHER, place
    if exponents > 1 or at in (start, place - 1):
        return HEXADECIMAL, place
    return (PADDED_EXPONENTIAL if data[start] == _ZERO and at > start + 1 else EXPONENTIAL), place


@inlined
def _token_at(data: Any, eights: Any, place: int, previous: int) -> tuple[int, int, float]:
    """Return the class and the value of the token at a place and where it ends, for a word without one `OTHER`.

    `previous` is the byte before. Where no word begins, the end is the place itself.
    """
    byte = data[place]
    flags = _TABLE[byte]
    is_negative = byte == _MINUS and not _TABLE[previous] & _WORD and bool(_TABLE[data[place + 1]] & _DIGIT)
    if not flags & _WORD and not is_negative:
        return OTHER, place, np.nan
    # After a backslash a word is or may be part of an escape.
    if (flags & _HEX or is_negative) and previous != _BACKSLASH:
        if data[place + 8] == _MINUS and _is_uuid(data, eights, place):
            return UUID, place + _UUID_BYTES, np.nan
        if data[place + 4] == _MINUS:
            seconds = _seconds_of_time(data, place)
            if seconds >= 0.0:
                return TIME, place + _TIME_BYTES, seconds
        if is_negative or flags & _DIGIT:
            kind, stop, value = _number(data, eights, place)
            if kind != OTHER or is_negative:
                return kind, _end_of_word(data, stop), value
        kind, stop = _hexadecimal(data, eights, place)
        return kind, stop, np.nan
    return OTHER, _end_of_word(data, place), np.nan


@inlined
def _end_of_word(data: Any, start: int) -> int:
    place = start
    while _TABLE[data[place]] & _WORD:
        place += 1
    return place


@inlined
def _mix(shape: Any, data: Any, eights: Any, start: int, stop: int) -> Any:
    """Return the hash of a line, taken on by the bytes from `start` to `stop`, eight at a time."""
    place = start
    while place + 8 <= stop:
        shape = (shape ^ eights[place]) * _FACTOR
        shape ^= shape >> np.uint64(32)
        place += 8
    for rest in range(place, stop):
        shape = (shape ^ np.uint64(data[rest])) * _FACTOR
        shape ^= shape >> np.uint64(32)
    return shape


@compiled
def _scan(
    data: Any, eights: Any, ends: Any, shapes: Any, firsts: Any, kinds: Any, starts: Any, stops: Any, values: Any
) -> int:
    line = token = 0
    place: Any = np.int64(0)  # a literal would be a type of its own: all that is called with it, compiled twice
    mixed: Any = np.int64(0)  # how far the bytes of the line are in its hash
    shape = _SEED
    previous = _NEWLINE
    while line < len(ends):
        byte = data[place]
        if not _TABLE[byte] & _WORD and byte not in (_MINUS, _NEWLINE):
            previous, place = byte, place + 1
            continue
        kind, stop, value = _token_at(data, eights, place, previous)
        if kind != OTHER:
            shape = (_mix(shape, data, eights, mixed, place) ^ np.uint64(256 + kind)) * _FACTOR
            mixed = stop
            kinds[token], starts[token], stops[token], values[token] = kind, place, stop, value
            token += 1
        elif byte == _NEWLINE:
            ends[line], firsts[line + 1] = place, token
            shapes[line] = _mix(shape, data, eights, mixed, place)
            line += 1
            shape, mixed = _SEED, place + 1
        place = max(stop, place + 1)
        previous = data[place - 1]
    return token


@dataclass(frozen=True)
class Tokens:
    """The lines of a text and their tokens; places are bytes from the start of the text.

    Line k ends before `ends[k]` and has the tokens from `firsts[k]` up to `firsts[k + 1]`.
    """

    ends: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]  # of integers, times (seconds since the epoch), and decimals that floats hold

    def line(self, number: int) -> slice:
        """Return where a line is, with its newline."""
        return slice(int(self.ends[number - 1]) + 1 if number else 0, int(self.ends[number]) + 1)


@dataclass(frozen=True)
class Scan(Tokens):
    """A text of lines that may be of any shape: the hash of each line's shape, and the class of each token."""

    shapes: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.uint8]


# So many bytes after a text that what looks for a token needs no check for the end.
_PADDING: Final = bytes(max(_UUID_BYTES, _TIME_BYTES) + 8)


def bytes_of(text: bytes | npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Return the bytes of a text, and for each the number that it and the seven after it are in memory."""
    eights: npt.NDArray[np.uint64] = np.ndarray((max(0, len(text) - 7),), np.dtype("<u8"), text, strides=(1,))
    return np.frombuffer(text, dtype=np.uint8), eights


def scan(text: bytes) -> Scan:
    """Find the tokens of all lines of a text; the last line has to end with a newline as well."""
    lines, room = text.count(b"\n"), len(text) // 2 + 1
    ends, firsts = np.empty(lines, dtype=np.int64), np.zeros(lines + 1, dtype=np.int64)
    shapes = np.empty(lines, dtype=np.uint64)
    kinds, values = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.float64)
    starts, stops = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    found = _scan(*bytes_of(text + _PADDING), ends, shapes, firsts, kinds, starts, stops, values)
    return Scan(ends, firsts, starts[:found], stops[:found], values[:found], shapes, kinds[:found])


# A node of `KnownShapes`: where the text before a token begins and ends, and the class of the token; at the end of a
# line, `OTHER`. `_NEXT` is the first node after it, or at the end the number of the shape. `_INSTEAD` is the next node
# to try at the same place.
_FROM, _TO, _KIND, _NEXT, _INSTEAD = range(5)


@compiled
def _match(
    data: Any,
    eights: Any,
    base: int,
    limit: int,
    line: int,
    token: int,
    texts: Any,
    nodes: Any,
    ends: Any,
    shapes: Any,
    firsts: Any,
    starts: Any,
    stops: Any,
    values: Any,
) -> tuple[int, int]:
    """Match the lines up to `limit`, from the line and token of these numbers on; `base` is where `data` begins."""
    place = 0
    while place < limit:
        first, at, shape = token, place, -1
        node = nodes[0, _NEXT]
        while node > 0:
            if _is_same(eights, at, texts, nodes[node, _FROM], nodes[node, _TO]):
                stop = at + nodes[node, _TO] - nodes[node, _FROM]
                if nodes[node, _KIND] == OTHER:
                    shape, place = nodes[node, _NEXT], stop
                    break
                kind, end, value = _token_at(data, eights, stop, data[stop - 1] if stop > place else _NEWLINE)
                if kind == nodes[node, _KIND]:
                    starts[token], stops[token], values[token] = base + stop, base + end, value
                    token += 1
                    at, node = end, nodes[node, _NEXT]
                    continue
            node = nodes[node, _INSTEAD]
        if shape < 0:
            token = first
            while not _has_newline(eights[place]):
                place += 8
            while data[place] != _NEWLINE:
                place += 1
            place += 1
        ends[line], shapes[line], firsts[line + 1] = base + place - 1, shape, token
        line += 1
    return line, token


@inlined
def _has_newline(eight: Any) -> bool:
    """Return whether one of eight bytes is a newline: taking 1 from a byte of 0 borrows from the next."""
    zero_at_newline = eight ^ np.uint64(0x0A0A0A0A0A0A0A0A)
    borrowed = (zero_at_newline - np.uint64(0x0101010101010101)) & ~zero_at_newline
    return bool(borrowed & np.uint64(0x8080808080808080))


@inlined
def _is_same(eights: Any, at: int, texts: Any, start: int, stop: int) -> bool:
    shift = at - start
    while start + 8 <= stop:
        if eights[start + shift] != texts[start]:
            return False
        start += 8
    return start == stop or (eights[start + shift] ^ texts[start]) << np.uint64(64 - 8 * (stop - start)) == 0


@dataclass(frozen=True)
class Matched(Tokens):
    """A text of lines some of which have a shape that is known: the number of the shape, else -1 and no token."""

    shapes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class KnownShapes:
    """Some shapes of lines, numbered from 0, as a tree: lines that begin alike share the nodes of their beginning.

    A line is one sequence of texts and tokens, so at each node at most one way goes on, and none is tried twice.
    """

    count: int = 0
    texts: bytes = b""
    nodes: tuple[tuple[int, int, int, int, int], ...] = ((0, 0, OTHER, 0, 0),)

    def including(self, line: bytes) -> KnownShapes:
        """Return these shapes and that of one more line, which has no newline and a shape that is not known yet."""
        tokens = scan(line + b"\n")
        parts, end = [], 0
        for kind, start, stop in zip(tokens.kinds, tokens.starts, tokens.stops, strict=True):
            parts.append((line[end:start], int(kind)))
            end = int(stop)
        texts, nodes = self.texts, [list(node) for node in self.nodes]
        at = 0
        for text, kind in [*parts, (line[end:] + b"\n", OTHER)]:
            following = nodes[at][_NEXT]
            while following:
                node = nodes[following]
                if kind != OTHER and node[_KIND] == kind and texts[node[_FROM] : node[_TO]] == text:
                    break
                following = node[_INSTEAD]
            if not following:
                following = len(nodes)
                nodes.append([len(texts), len(texts) + len(text), kind, 0, nodes[at][_NEXT]])
                nodes[at][_NEXT] = following
                texts += text
            at = following
        nodes[at][_NEXT] = self.count
        return KnownShapes(self.count + 1, texts, tuple((a, b, c, d, e) for a, b, c, d, e in nodes))

    def match(self, text: bytes) -> Matched:
        """Find the lines of these shapes and their tokens; the last line has to end with a newline as well."""
        # Memory that is never written to is never taken: every byte could be a line, every second one begin a token.
        ends, shapes, firsts = (np.empty(len(text) + 1, dtype=np.int64) for _ in range(3))
        starts, stops = (np.empty(len(text) // 2 + 1, dtype=np.int64) for _ in range(2))
        values = np.empty(len(text) // 2 + 1, dtype=np.float64)
        firsts[0] = line = token = 0
        known = bytes_of(self.texts + _PADDING)[1], np.array(self.nodes)
        # The lines near the end are matched in a copy with padding, so that the rest needs none.
        end = text.rfind(b"\n", 0, max(0, len(text) - len(_PADDING))) + 1
        for base, part, limit in (0, text, end), (end, text[end:] + _PADDING, len(text) - end):
            line, token = _match(
                *bytes_of(part), base, limit, line, token, *known, ends, shapes, firsts, starts, stops, values
            )
        return Matched(ends[:line], firsts[: line + 1], starts[:token], stops[:token], values[:token], shapes[:line])
