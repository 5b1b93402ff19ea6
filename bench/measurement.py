"""What a bench hands to `inference-lab bench`: comparisons with every run's figure kept.

A bench is a module `bench/bench_NAME.py` that ends in

    if __name__ == "__main__":
        hand_over("NAME", "What is measured, in one sentence.", measure)

where `measure(quick: bool)` yields Comparisons. It runs in a fresh process, alone:
`python -m bench.bench_NAME [--quick] [--json FILE]`. It prints progress on stderr, and its table on stdout.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from core import strict_json
from core.program.command_line import Parser
from core.run.manifest import commit

RAW: Final = Path(__file__).resolve().parent / "raw"


@dataclass(frozen=True)
class Comparison:
    """One thing measured.

    `ours` and `peer` hold one figure a run, in `unit`. `goal` states what was aimed at and `met` whether it was
    reached, None where there is no goal. Without a peer, `peer_name` says so and why.
    """

    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str = ""
    better: Literal["lower", "higher"] = "lower"
    goal: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's."""
        if not self.ours or not self.peer or not statistics.median(self.peer):
            return None
        return statistics.median(self.ours) / statistics.median(self.peer)

    def line(self) -> str:
        """A row of the results' table, the ratio first."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        peer = f"{self.peer_name}: {spread(self.peer)}" if self.peer else self.peer_name
        cells = (ratio, self.what, self.unit, spread(self.ours), peer, self.goal, met, str(len(self.ours)), self.note)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


HEADER: Final = (
    "| ratio | what | unit | ours: median (lowest to highest) | peer | goal | met | runs | note |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def spread(values: Sequence[float]) -> str:
    """Median and extremes of the runs; `-` for none."""
    if not values:
        return "-"
    if len(values) == 1:
        return figure(values[0])
    return f"{figure(statistics.median(values))} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    """Three significant digits, thousands whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def progress(text: str) -> None:
    """Say on stderr what is being measured."""
    print(f"  {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, kernel, load, versions, commit."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "commit": commit() or "unknown",
    }


def hand_over(name: str, about: str, measure: Callable[[bool], Iterable[Comparison]]) -> None:
    """Run a bench and give its comparisons to whoever asked: a table on stdout, JSON in `--json FILE`."""
    parser = Parser(prog=f"bench.bench_{name}", description=about)
    parser.add_argument("--quick", action="store_true", help="few and short runs: to see that the bench works")
    parser.add_argument("--json", type=Path, help="write the comparisons here too")
    options = parser.parse_args()
    before = machine()
    found = []
    started = time.monotonic()
    for comparison in measure(options.quick):
        found.append(comparison)
        progress(f"{comparison.what}: {spread(comparison.ours)} {comparison.unit}")
        if options.json is not None:
            # Written after every comparison: a bench that fails late does not lose what it has.
            record = {
                "name": name,
                "about": about,
                "quick": options.quick,
                "machine": before,
                "load_average_after": [round(value, 2) for value in os.getloadavg()],
                "seconds": round(time.monotonic() - started, 1),
                "comparisons": [dataclasses.asdict(one) for one in found],
            }
            options.json.write_text(strict_json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(HEADER, *(one.line() for one in found), sep="\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
