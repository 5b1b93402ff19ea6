"""The options of `python -m analysis traffic`, apart from what they start: the simulation is slow to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from core.charges import FRONT_DOORS

SPAN: Final = "LOW[:HIGH]"


def add_traffic_parser(commands: Any) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser("traffic", help="simulate a month of other traffic with the calls of a run")
    add = parser.add_argument
    add("run", nargs="?", default="latest", help="a run's name or directory (default: latest)")
    add("--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)")
    add("--variant", action="append", help="a variant's key; repeat for several (default: all)")
    _add_arrivals(parser)
    add("--idle-minutes", type=span, default=(5.0, 60.0), metavar=SPAN, help="life of an idle environment (5:60)")
    add("--choice", default="newest_first", help="which idle environment: newest_first, oldest_first, random")
    add("--concurrency", type=count, default=1000, help="reserved or account concurrency (default: 1000)")
    add("--front-door", choices=FRONT_DOORS, default="rest_api", help="what is in front (default: rest_api)")
    add(
        "--retries", type=int, choices=range(11), default=0, metavar="N", help="how often a caller retries (default: 0)"
    )
    add("--pings", type=count, default=1, help="schedules that ping the function every 4 minutes (default: 1)")
    add("--limit-ms", type=positive, help="how long a caller waits (default: that of [goal])")
    add(
        "--max-missed",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="callers that may miss the limit (default: 0.01)",
    )
    add("--highest-rate", action="store_true", help="find the highest rate that keeps --max-missed instead")
    add("--json", action="store_true", help="print JSON instead of a table")


def _add_arrivals(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add("--requests-per-day", type=positive, help="default: that of [traffic] in the run's configuration")
    add("--trace", type=Path, help="a CSV file: `timestamp`, `count` (per minute), or Azure's functions trace")
    add("--from-function", metavar="NAME", help="the Invocations metric of a live function, last 14 days")
    add = parser.add_argument
    add("--trace-function", default="", metavar="HASH", help="which function of Azure's trace")
    add("--burstiness", type=span, default=(1.0, 1.0), metavar=SPAN, help="index of dispersion; 1 (default) is Poisson")
    add("--batch-size", type=positive, default=1.0, help="mean number of simultaneous requests (default: 1)")


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def count(text: str) -> int:
    """Parse a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def span(text: str) -> tuple[float, float]:
    """Parse LOW:HIGH, or one number for both."""
    low, _, high = text.partition(":")
    bounds = positive(low), positive(high or low)
    if bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError(f"{text} is not LOW:HIGH")
    return bounds
