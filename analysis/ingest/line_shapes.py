"""Read the lines of one shape all at once, as a slow reader of single lines would read each of them. No I/O.

A log of a million calls has a dozen shapes of lines (see `line_scan`). The reader of single lines is asked what it
makes of one line of a shape, and of the same line with other values in place of its tokens. What it answers alike each
time is constant, and what follows one token, or the text from one token to another, is taken from there in all other
lines of that shape. A shape with an answer of any other kind stays with the reader of single lines, which is the only
one that knows a format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from analysis.ingest import line_scan
from analysis.ingest.line_scan import KnownShapes, Scan, Tokens, bytes_of, scan
from simulation.compiled import compiled

# So many lines of a shape are read one by one before it is learned, which costs as much as some tens of them.
WORTH_LEARNING: Final = 100
LEARNED_FROM_BYTES: Final = 1_000_000  # at a time: to find the shapes in lines takes longer than to know them again
_MOST_SEEN: Final = 10_000  # what an application logs may have as many shapes as lines

# Values to try in place of the tokens; the last two settle what reads zero or a negative number in a way of its own.
_TRIALS: Final = ("some", "others", "zero", "negative")


@dataclass(frozen=True)
class Row:
    """What a reader makes of one line: a name for its kind, and the columns of that kind."""

    kind: str
    columns: Mapping[str, Any]


class Length(NamedTuple):
    """A column that is the number of bytes of a text that the line holds as it is, and a constant more."""

    text: str  # one character a byte
    more: int

    @property
    def value(self) -> int:
        return len(self.text) + self.more


# Raises ValueError for a line that is not to be read by its shape.
ReadLine = Callable[[bytes], Row]


@dataclass(frozen=True)
class _Text:
    """A text that reaches from one token to another, with what the reader puts around it."""

    before: str
    first: int
    last: int
    after: str


@dataclass(frozen=True)
class _Recipe:
    """How the columns of a shape follow from its tokens."""

    kind: str
    constants: Mapping[str, Any]
    numbers: Mapping[str, int]
    texts: Mapping[str, _Text]
    lengths: Mapping[str, tuple[_Text, int]]

    def row(self, line: bytes, tokens: Tokens) -> Row:
        found = self.columns(line, tokens, np.zeros(1, dtype=np.int64))
        return Row(self.kind, {**self.constants, **{name: values[0] for name, values in found.items()}})

    def columns(self, text: bytes, tokens: Tokens, firsts: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns that vary, for the lines whose first tokens are these."""
        columns: dict[str, Any] = {name: _numbers(text, tokens, firsts + place) for name, place in self.numbers.items()}
        for name, one in self.texts.items():
            starts, stops = tokens.starts[firsts + one.first], tokens.stops[firsts + one.last]
            columns[name] = _strings(text, starts, stops, one.before, one.after)
        for name, (one, more) in self.lengths.items():
            middle = tokens.stops[firsts + one.last] - tokens.starts[firsts + one.first]
            columns[name] = middle + (len(one.before) + len(one.after) + more)
        return columns


def _numbers(text: bytes, tokens: Tokens, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    values = tokens.values[places]
    inexact = np.flatnonzero(np.isnan(values))
    if len(inexact):
        written = _strings(text, tokens.starts[places[inexact]], tokens.stops[places[inexact]])
        values[inexact] = written.cast(pl.Float64).to_numpy()
    return values


def _strings(
    text: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64], before: str = "", after: str = ""
) -> pl.Series:
    """Return the ASCII texts from each start to its stop, with what is put around all of them."""
    first, last = (np.frombuffer(one.encode(), dtype=np.uint8) for one in (before, after))
    size = int((stops - starts).sum()) + len(starts) * (len(first) + len(last))
    places, joined = np.zeros(len(starts) + 1, dtype=np.int64), np.empty(size, dtype=np.uint8)
    _join(*bytes_of(text), starts, stops, first, last, places, *bytes_of(joined))
    buffers = [None, pa.py_buffer(places), pa.py_buffer(joined)]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), len(starts), buffers))


@compiled
def _join(
    data: Any,
    eights: Any,
    starts: Any,
    stops: Any,
    before: Any,
    after: Any,
    places: Any,
    joined: Any,
    joined_eights: Any,
) -> None:
    """Write texts one after the other, and where each ends; eight bytes at a time, the last eight perhaps twice."""
    end = 0
    for row in range(len(starts)):
        for place in range(len(before)):
            joined[end] = before[place]
            end += 1
        start, stop = starts[row], stops[row]
        shift = end - start
        if stop - start < 8:
            for place in range(start, stop):
                joined[place + shift] = data[place]
        else:
            for place in range(start, stop - 8, 8):
                joined_eights[place + shift] = eights[place]
            joined_eights[stop - 8 + shift] = eights[stop - 8]
        end += stop - start
        for place in range(len(after)):
            joined[end] = after[place]
            end += 1
        places[row + 1] = end


@dataclass(frozen=True)
class Alike:
    """The lines of one shape in a text: their numbers, what they have in common, and the columns that vary."""

    kind: str
    lines: npt.NDArray[np.int64]
    constants: Mapping[str, Any]
    columns: Mapping[str, Any]

    def column(self, name: str) -> Any:
        """Return a column, of as many values as there are lines. Raises KeyError."""
        return self.columns[name] if name in self.columns else [self.constants[name]] * len(self.lines)

    def frame(self, schema: Mapping[str, Any], *given: pl.Series) -> pl.DataFrame:
        """Return the columns of a schema, some of which are given. Raises KeyError for one that the lines lack."""
        named = {one.name: one for one in given}
        return pl.DataFrame(
            [
                named[name]
                if name in named
                else pl.Series(name, self.columns[name]).cast(kind)
                if name in self.columns
                else pl.Series(name, [self.constants[name]], dtype=kind).new_from_index(0, len(self.lines))
                for name, kind in schema.items()
            ]
        )


@dataclass(frozen=True)
class Reading:
    """What was read of a text: the lines of learned shapes, and all others, in the order of the text."""

    lines: int
    alike: Sequence[Alike]
    others: npt.NDArray[np.int64]  # numbers of lines, from 0
    rest: bytes  # the other lines


@dataclass
class ShapeReader:
    """Reads texts by the shapes of their lines, on any thread; what it has learned of a shape holds for later texts."""

    read_line: ReadLine
    worth_learning: int = WORTH_LEARNING
    _shapes: KnownShapes = field(default_factory=KnownShapes)
    _recipes: list[_Recipe | None] = field(default_factory=list)  # by the number of the shape
    _seen: Counter[int] = field(default_factory=Counter)  # lines so far, by the hash of a shape that is not known
    _learning: Lock = field(default_factory=Lock)

    def read(self, text: bytes) -> Reading:
        """Read the lines of a text, the last of which has to end with a newline as well."""
        reading = self._read_known(text)
        while reading.rest and self._learn_from(reading.rest):
            more = self._read_known(reading.rest)
            alike = [replace(one, lines=reading.others[one.lines]) for one in more.alike]
            reading = Reading(reading.lines, [*reading.alike, *alike], reading.others[more.others], more.rest)
        return reading

    def _read_known(self, text: bytes) -> Reading:
        """Read the lines whose shapes are learned."""
        lines = self._shapes.match(text)
        found, others = [], [np.empty(0, dtype=np.int64)]
        for shape in (np.flatnonzero(np.bincount(lines.shapes + 1)) - 1).tolist():
            numbers = np.flatnonzero(lines.shapes == shape)
            recipe = self._recipes[shape] if shape >= 0 else None
            if recipe is None:
                others.append(numbers)
            else:
                columns = recipe.columns(text, lines, lines.firsts[numbers])
                found.append(Alike(recipe.kind, numbers, recipe.constants, columns))
        left = np.sort(np.concatenate(others))
        return Reading(len(lines.shapes), found, left, _lines(text, lines, left))

    def _learn_from(self, text: bytes) -> bool:
        """Learn the shapes that many lines have had so far; returns whether some of these lines are known now."""
        with self._learning:
            # Another thread may have learned some in the meantime.
            lines = self._shapes.match(text)
            is_learned = any(self._recipes[shape] for shape in np.unique(lines.shapes[lines.shapes >= 0]))
            unknown = _lines(text, lines, np.flatnonzero(lines.shapes < 0))
            unknown = unknown[: unknown.find(b"\n", LEARNED_FROM_BYTES) + 1] or unknown
            tokens = scan(unknown)
            found = np.unique(tokens.shapes, return_index=True, return_counts=True)
            for shape, example, count in zip(*(one.tolist() for one in found), strict=True):
                self._seen[shape] += count
                if self._seen[shape] >= self.worth_learning:
                    line = unknown[tokens.line(example)].removesuffix(b"\n")
                    self._recipes.append(_learn(line, self.read_line))
                    self._shapes = self._shapes.including(line)
                    is_learned = True
            if len(self._seen) > _MOST_SEEN:
                self._seen.clear()
            return is_learned


def _lines(text: bytes, lines: Tokens, numbers: npt.NDArray[np.int64]) -> bytes:
    return b"".join(text[lines.line(number)] for number in numbers.tolist())


def _learn(line: bytes, read_line: ReadLine) -> _Recipe | None:
    """Return how the columns of a line's shape follow from its tokens; None where they follow in another way."""
    tokens = scan(line + b"\n")
    tried = [_tried(line, tokens, which) for which in range(len(_TRIALS))]
    scans = [scan(one + b"\n") for one in tried]
    if any(not np.array_equal(one.kinds, tokens.kinds) or one.shapes[0] != tokens.shapes[0] for one in scans):
        return None
    try:
        rows = [read_line(one) for one in tried]
        own = read_line(line)
    except ValueError:
        return None
    if any(row.kind != own.kind or row.columns.keys() != own.columns.keys() for row in rows):
        return None
    constants: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    texts: dict[str, _Text] = {}
    lengths: dict[str, tuple[_Text, int]] = {}
    for name in own.columns:
        values = [row.columns[name] for row in rows]
        if all(type(value) is type(values[0]) and value == values[0] for value in values):
            constants[name] = values[0].value if isinstance(values[0], Length) else values[0]
        elif all(isinstance(value, Length) for value in values):
            text = _text_in([value.text for value in values], tried, scans)
            if text is None or len({value.more for value in values}) > 1:
                return None
            lengths[name] = text, values[0].more
        elif all(isinstance(value, str) for value in values):
            text = _text_in(values, tried, scans)
            if text is None:
                return None
            texts[name] = text
        else:
            place = _place_of(values, scans)
            if place is None:
                return None
            numbers[name] = place
    recipe = _Recipe(own.kind, constants, numbers, texts, lengths)
    wanted = {name: value.value if isinstance(value, Length) else value for name, value in own.columns.items()}
    return recipe if recipe.row(line, tokens).columns == wanted else None


def _tried(line: bytes, tokens: Scan, which: int) -> bytes:
    """Return the line with another value in place of each token: of the same class, and found nowhere else in it."""
    parts, end = [], 0
    for place, (kind, start, stop) in enumerate(zip(tokens.kinds, tokens.starts, tokens.stops, strict=True)):
        parts += [line[end:start], _value(int(kind), place, which).encode()]
        end = int(stop)
    return b"".join([*parts, line[end:]])


def _value(kind: int, place: int, which: int) -> str:
    trial = _TRIALS[which]
    own = 1_000 * which + place
    if kind in {line_scan.INTEGER, line_scan.DECIMAL}:
        # A reader that makes a text of a number would write the second one without its zero.
        part = "" if kind == line_scan.INTEGER else ".50" if trial == "others" else ".5"
        if trial == "zero":
            return "0.0" if part else "0"
        return f"{'-' if trial == 'negative' else ''}{(3 if part else 1) * 100_000 + own}{part}"
    if kind == line_scan.LONG_INTEGER:
        # 32 bits hold the second one.
        return f"{'-' if trial == 'negative' else ''}{(1 if trial == 'others' else 5) * 1_000_000_000 + own}"
    return {
        line_scan.HUGE_INTEGER: f"7{own:019d}",
        line_scan.PADDED_INTEGER: f"02{own:08d}",
        line_scan.UUID: f"{own:08x}-0000-4000-8000-aaaaaaaaaaaa",
        line_scan.HEXADECIMAL: f"abcdabcd{own:08x}",
        # The third one is beyond what a float holds.
        line_scan.EXPONENTIAL: f"{7_000_000 + own}e{(1, 2, 9999, 3)[which]}",
        line_scan.PADDED_EXPONENTIAL: f"0{7_000_000 + own}e{(1, 2, 9999, 3)[which]}",
        line_scan.TIME: f"2031-05-06T07:{own // 1000 % 60:02d}:{place // 1000 % 60:02d}.{place % 1000:03d}Z",
    }[kind]


def _place_of(values: Sequence[Any], scans: Sequence[Scan]) -> int | None:
    """Return which token a number is the value of, in each of the lines that were tried."""
    if any(type(value) not in (int, float) for value in values):
        return None
    table = np.array([one.values for one in scans])
    places = np.flatnonzero((table == np.array(values, dtype=np.float64)[:, None]).all(axis=0))
    return int(places[0]) if len(places) else None


def _text_in(values: Sequence[str], tried: Sequence[bytes], scans: Sequence[Scan]) -> _Text | None:
    """Return from which token to which a text reaches, in each of the lines that were tried."""
    spans = [
        [line[start:stop].decode() for start, stop in zip(one.starts, one.stops, strict=True)]
        for line, one in zip(tried, scans, strict=True)
    ]
    inside = [place for place, token in enumerate(spans[0]) if token in values[0]]
    if not inside:
        return None
    first, last = inside[0], inside[-1]
    middles = [line[one.starts[first] : one.stops[last]] for line, one in zip(tried, scans, strict=True)]
    if not all(middle.isascii() for middle in middles):
        return None
    before, _, after = values[0].partition(middles[0].decode())
    found = [f"{before}{middle.decode()}{after}" for middle in middles]
    return _Text(before, first, last, after) if found == list(values) else None
