"""CloudWatch's filter patterns for text: terms and phrases. No I/O.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from core.errors import UserError

Matcher = Callable[[str], bool]

MAX_PATTERN_LENGTH: Final = 1024
_TERM: Final = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"%]+))')
_NOT_MODELLED: Final = {
    "{": "JSON filter patterns, { $.key = ... }",
    "[": "space-delimited filter patterns, [a, b, ...]",
}


class FilterPatternError(UserError):
    """A filter pattern that CloudWatch would refuse, or that the lab does not model."""


def compile_pattern(pattern: str | None) -> Matcher | None:
    """Return a predicate on messages, or None where the pattern matches every message. Raises FilterPatternError."""
    text = (pattern or "").strip()
    if not text or text == '""':
        return None
    if len(text) > MAX_PATTERN_LENGTH:
        raise FilterPatternError(
            f"the filter pattern has {len(text)} characters; at most {MAX_PATTERN_LENGTH} are allowed"
        )
    if text[0] in _NOT_MODELLED:
        raise FilterPatternError(
            f"the lab does not model {_NOT_MODELLED[text[0]]}: use terms or quoted phrases, and select by JSON keys in "
            "the client"
        )
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise FilterPatternError(
                f"the filter pattern is not understood from {text[position : position + 30]!r} on: the lab models "
                "terms and quoted phrases, with ? or - before them, and no regular expressions"
            )
        position = found.end()
        phrase = found["phrase"]
        terms[found["sign"]].append(found["word"] if phrase is None else re.sub(r"\\(.)", r"\1", phrase))
    required, optional, excluded = terms.values()
    # AWS ignores optional terms where there are required ones.
    return lambda message: (
        all(term in message for term in required)
        and (bool(required) or not optional or any(term in message for term in optional))
        and not any(term in message for term in excluded)
    )
