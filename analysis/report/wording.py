"""Names and numbers as people read them: the one place where figures, tables and page format."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Final

from analysis.summary import METRICS, Estimate, Summary
from core.run.records import Experiment
from core.variants import Variant

TEMPLATES: Final = Path(__file__).parent / "templates"
NO_NUMBER: Final = "\N{EN DASH}"

STRATEGY_NAMES: Final = {
    "on_demand": "on demand",
    "snapstart": "SnapStart",
    "provisioned_concurrency": "provisioned concurrency",
    "warm_pings": "warm pings",
}


def metric_label(metric: str) -> str:
    label, unit = METRICS.get(metric, (metric, ""))
    return f"{label}, {unit}" if unit else label


def rounded(value: float | None) -> float | None:
    """Five significant digits: finer than any interval here, and half the bytes."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def number_text(value: float | None, *, digits: int = 3) -> str:
    """A number with `digits` significant digits and thousands separated; an en dash if it is missing."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def count_text(value: float | None) -> str:
    """A whole number, or a setting that may be whole, without zeros that say nothing."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    return f"{value:,.0f}" if value == round(value) else number_text(value)


def usd_text(value: float | None) -> str:
    """Dollars with cents from one dollar on, three significant digits below."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${number_text(value)}"


def percent_text(share: float | None) -> str:
    """A share from 0 to 1 as percent with three significant digits at most."""
    if share is None or not math.isfinite(share):
        return NO_NUMBER
    text = number_text(share * 100)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"


def interval_text(estimate: Estimate, *, money: bool = False) -> str:
    """`55.1 to 60.2`, `about 55.1 to 60.2` where it is approximate, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    show = usd_text if money else number_text
    return f"{'about ' if estimate.approximate else ''}{show(estimate.low)} to {show(estimate.high)}"


def estimate_text(estimate: Estimate, unit: str) -> str:
    """`57.3 ms (55.1 to 60.2)`, or the value and why it has no interval."""
    money = unit == "USD"
    value = usd_text(estimate.value) if money else f"{number_text(estimate.value)} {unit}"
    interval = interval_text(estimate, money=money) or f"no interval: {estimate.reason or 'too few samples'}"
    return f"{value} ({interval})"


def missing_reason(summary: Summary, variant: Variant, experiment: Experiment, estimate: Estimate | None) -> str:
    """Return a short reason for a missing number: how the calls ended if none was ok, else what the estimate says."""
    outcomes: Counter[str] = Counter()
    for cell in summary.cells:
        if cell.variant == variant.key and cell.experiment == experiment and cell.start_type != "any":
            outcomes.update(cell.outcomes)
    if outcomes and not outcomes["ok"]:
        outcome, count = outcomes.most_common(1)[0]
        return f"{count:,} of {outcomes.total():,} {experiment} calls {outcome.replace('_', ' ')}"
    if estimate is not None and estimate.reason:
        return estimate.reason
    if not outcomes:
        return f"no {experiment} call" if experiment in summary.experiments else f"no {experiment} experiment"
    return f"no sample that counts among {outcomes.total():,} {experiment} calls"


def moment_text(seconds: float | None) -> str:
    return "unknown" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
