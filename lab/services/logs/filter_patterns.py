"""CloudWatch's filter patterns: terms, phrases and JSON selectors. No I/O.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from core.errors import UserError

Matcher = Callable[[str], bool]
_Condition = Callable[[Any], bool]

MAX_PATTERN_LENGTH: Final = 1024
_MAX_DEPTH: Final = 50

_TERM: Final = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|%(?P<regex>[^%]*)%|(?P<word>[^\s"]+))')
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<selector>\$(?:\.[A-Za-z_@#-][\w@#-]*|\.?\[(?:\d+|\*|'[^']*'|"[^"]*")\]|\.\*)+)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | %(?P<regex>[^%]*)%
      | (?P<operator>&&|\|\||!=|<=|>=|=|<|>|\(|\))
      | (?P<word>[^\s()&|=<>!"%]+)
    )""",
    re.VERBOSE,
)
_STEP: Final = re.compile(
    r"\.?\[(?:(?P<index>\d+)|(?P<any>\*)|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\]|\.(?P<name>[^.\[]+)"
)
_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class FilterPatternError(UserError):
    """A filter pattern that CloudWatch would refuse, or that this lab does not know."""


class _Token(NamedTuple):
    kind: str
    text: str


def compile_pattern(pattern: str | None) -> Matcher | None:
    """A predicate on messages for a filter pattern, or None where it takes every message. Raises FilterPatternError."""
    text = (pattern or "").strip()
    if not text or text == '""':
        return None
    if len(text) > MAX_PATTERN_LENGTH:
        raise FilterPatternError(
            f"the filter pattern has {len(text)} characters; at most {MAX_PATTERN_LENGTH} are allowed"
        )
    if text.startswith("{"):
        if not text.endswith("}"):
            raise FilterPatternError(f"the filter pattern {text!r} starts with {{ and does not end with }}")
        return _json_matcher(text[1:-1])
    if text.startswith("["):
        raise FilterPatternError(
            "space-delimited filter patterns, [a, b, ...], are not modelled by the lab",
            hint="Use terms or { $.key = ... }.",
        )
    return _term_matcher(text)


# Terms -----------------------------------------------------------------------------------------------


def _term_matcher(text: str) -> Matcher:
    wanted: list[Matcher] = []
    optional: list[Matcher] = []
    excluded: list[Matcher] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise FilterPatternError(f"the filter pattern is not understood from {text[position : position + 30]!r} on")
        position = found.end()
        if text[position:].isspace():
            position = len(text)
        matcher = _term(found)
        {"": wanted, "?": optional, "-": excluded}[found["sign"]].append(matcher)
    # Beside required terms AWS ignores the optional ones.
    return lambda message: (
        all(matches(message) for matches in wanted)
        and (bool(wanted) or not optional or any(matches(message) for matches in optional))
        and not any(matches(message) for matches in excluded)
    )


def _term(found: re.Match[str]) -> Matcher:
    if found["regex"] is not None:
        expression = _regex(found["regex"])
        return lambda message: expression.search(message) is not None
    phrase = found["phrase"]
    term = found["word"] if phrase is None else re.sub(r"\\(.)", r"\1", phrase)
    return lambda message: term in message


# JSON ------------------------------------------------------------------------------------------------


def _json_matcher(text: str) -> Matcher:
    condition = _Parser(text).parse()

    def matches(message: str) -> bool:
        if message.lstrip()[:1] != "{":
            return False
        try:
            document = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return condition(document)

    # Most lines of a log are not those asked for: looking for the text costs less than parsing JSON.
    literal = re.fullmatch(r"\s*\$[\w.]+\s*=\s*\"([\w.:/-]+)\"\s*", text)
    if literal is not None:
        needle = f'"{literal[1]}"'
        return lambda message: needle in message and matches(message)
    return matches


class _Parser:
    """Recursive descent over `selector operator value`, `&&`, `||` and parentheses; && binds tighter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def parse(self) -> _Condition:
        condition = self._either()
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._at].text!r}")
        return condition

    def _either(self) -> _Condition:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error("too many parentheses")
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else lambda document: any(part(document) for part in parts)

    def _both(self) -> _Condition:
        parts = [self._single()]
        while self._take("&&"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else lambda document: all(part(document) for part in parts)

    def _single(self) -> _Condition:
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise self._error("a ) is missing")
            return inner
        token = self._next()
        if token.kind != "selector":
            raise self._error(f"expected a selector such as $.key, found {token.text!r}")
        steps = _steps(token.text)
        verb = self._next()
        if verb.kind == "word":
            return self._state(steps, verb.text.upper())
        if verb.kind != "operator" or verb.text not in _ORDER:
            raise self._error(f"expected a comparison, found {verb.text!r}")
        return self._comparison(steps, verb.text, self._next())

    def _state(self, steps: tuple[Any, ...], verb: str) -> _Condition:
        words = (verb, self._next().text.upper())
        if words == ("NOT", "EXISTS"):
            return lambda document: not list(_select(document, steps))
        expected = {("IS", "NULL"): None, ("IS", "TRUE"): True, ("IS", "FALSE"): False}
        if words not in expected:
            raise self._error(f"expected IS NULL, IS TRUE, IS FALSE or NOT EXISTS, found {' '.join(words)!r}")
        value = expected[words]
        return lambda document: any(found is value for found in _select(document, steps))

    def _comparison(self, steps: tuple[Any, ...], verb: str, token: _Token) -> _Condition:
        if token.kind not in {"string", "word", "regex"}:
            raise self._error(f"expected a value, found {token.text!r}")
        test = _value_test(token)
        if test is None:
            number = float(token.text)
            compare = _ORDER[verb]
            return lambda document: any(
                compare(found, number)
                for found in _select(document, steps)
                if isinstance(found, int | float) and not isinstance(found, bool)
            )
        if verb not in {"=", "!="}:
            raise self._error(f"{verb} compares numbers; {token.text!r} is text")
        if verb == "=":
            return lambda document: any(isinstance(f, str) and test(f) for f in _select(document, steps))
        return lambda document: any(not (isinstance(f, str) and test(f)) for f in _select(document, steps))

    def _next(self) -> _Token:
        if self._at >= len(self._tokens):
            raise self._error("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("operator", text):
            self._at += 1
            return True
        return False

    def _error(self, why: str) -> FilterPatternError:
        return FilterPatternError(f"the filter pattern {{{self._text}}} is not understood: {why}")


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise FilterPatternError(f"the filter pattern is not understood from {text[position : position + 30]!r} on")
        position = found.end()
        kind = found.lastgroup or ""
        yield _Token(kind, found[kind])


def _value_test(token: _Token) -> Matcher | None:
    """A test on text for a value; None where the value is a number."""
    if token.kind == "regex":
        expression = _regex(token.text)
        return lambda value: expression.search(value) is not None
    if token.kind == "word" and re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", token.text):
        return None
    text = re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "string" else token.text
    if "*" not in text:
        return lambda value: value == text
    expression = re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)
    return lambda value: expression.fullmatch(value) is not None


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise FilterPatternError(f"%{text}% is not a regular expression: {error}") from None


def _steps(selector: str) -> tuple[Any, ...]:
    steps: list[Any] = []
    for found in _STEP.finditer(selector[1:]):
        if found["index"] is not None:
            steps.append(int(found["index"]))
        elif found["any"] is not None or found["name"] == "*":
            steps.append(None)
        else:
            steps.append(found["single"] or found["double"] or found["name"])
    return tuple(steps)


def _select(value: Any, steps: tuple[Any, ...]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step is None:
        children = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        for child in children:
            yield from _select(child, rest)
    elif isinstance(step, int):
        if isinstance(value, list) and step < len(value):
            yield from _select(value[step], rest)
    elif isinstance(value, dict) and step in value:
        yield from _select(value[step], rest)
