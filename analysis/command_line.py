"""How the analysis' commands read a percentage."""

from __future__ import annotations

import argparse
import math


def percent(text: str) -> float:
    """`3%` or `3` as 0.03. Raises ArgumentTypeError for what is no percentage from 0 on."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; give a number from 0 on, such as 3%")
    return share
