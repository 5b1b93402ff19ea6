"""One counted line on stderr for all requests that are wrong: a mistake of a caller is told to the caller."""

from __future__ import annotations

import collections
import sys


class CallersMistakes:
    """Counts refused requests; says the first one, and at the end how many there were."""

    def __init__(self) -> None:
        self._count = 0
        self._at: collections.Counter[str] = collections.Counter()

    def count(self, what: str) -> None:
        self._count += 1
        if self._count == 1:
            print(f"lab: refused a malformed request ({what}); more are counted until the lab stops", file=sys.stderr)

    def count_at(self, place: str, what: str) -> None:
        """Count a refusal that may be our fault; `what` is logged once per place in the code that raised it."""
        self._at[place] += 1
        if self._at[place] == 1:
            print(f"lab: {what}; more of this place are counted until the lab stops", file=sys.stderr)

    def report(self) -> None:
        if self._count > 1:
            print(f"lab: refused {self._count:,} malformed requests in all", file=sys.stderr)
        for place, count in self._at.items():
            if count > 1:
                print(f"lab: refused {count:,} requests in all at {place}", file=sys.stderr)
