"""JSON as RFC 8259 has it: UTF-8, and no NaN or Infinity, which Python's own module reads and writes."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(text: str | bytes) -> Any:
    """Parse a document. Raises ValueError for what is not JSON, is not UTF-8 or is nested too deeply."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dumps(value: Any, **style: Any) -> str:
    """Return a document; `style` is as `json.dumps` takes it. Raises ValueError for a NaN or an infinite number."""
    return json.dumps(value, allow_nan=False, **style)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
