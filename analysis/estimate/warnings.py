"""Warnings for readers of the figures, by subject, each with advice. No I/O but reading their texts.

The data contract is among them: a breach caps every verdict at provisional (`DataWarning.caps_verdicts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from analysis.estimate.cells import Measured
from analysis.estimate.estimates import SMALLEST_BOOTSTRAP_N, largest_share
from analysis.estimate.load_test import load_rows
from analysis.summary import Coverage, DataWarning, MetricCheck
from analysis.texts import texts
from core.models import CAPPED_ENGINES, ENGINE_NAMES
from core.money.prices import Prices
from core.run.records import PROVISIONED, Manifest
from core.variants import DISPLAY_NAMES, Variant

TEXTS: Final = Path(__file__).with_name("warnings.toml")
CARRIED_BY_ONE: Final = 0.1  # of all billed time: above it a mean rests on one call
MISSING_REPORTS: Final = 0.01  # of the reports expected: above it costs are biased by what the missing calls took
MANY_LATE: Final = 0.01


@dataclass(frozen=True)
class Facts:
    """The data that warnings are computed from."""

    rows: pl.DataFrame
    measured: Measured
    manifest: Manifest
    variants: Mapping[str, Variant]
    coverages: Sequence[Coverage]
    weights: Mapping[str, tuple[str, ...]]
    metric_checks: Sequence[MetricCheck]
    late_after_ms: float
    prices: Prices
    is_scaled: bool = False  # whether Application Auto Scaling changes how many environments are provisioned
    known: tuple[DataWarning, ...] = ()

    def about(self, code: str, condition: pl.Expr) -> Iterator[DataWarning]:
        """Warn about the rows that meet a condition, if there are any."""
        part = self.rows.filter(condition)
        if part.height:
            yield _warning(code, self.of(part), part.height)

    def of(self, part: pl.DataFrame) -> tuple[str, ...]:
        """The variants that have rows here, in the order of the matrix."""
        present = set(part["variant"].to_list())
        return tuple(key for key in self.variants if key in present)


def make_warnings(facts: Facts) -> tuple[DataWarning, ...]:
    """Every warning of a run, the most serious first."""
    found = [*facts.known, *(warning for subject in SUBJECTS for warning in subject(facts))]
    order = {"serious": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda warning: order[warning.severity]))


def _warning(code: str, variants: Iterable[str] = (), count: int | None = None, **gaps: Any) -> DataWarning:
    """Return the warning of this code; `gaps` complete its texts."""
    text = texts(TEXTS)[code]
    return DataWarning(
        code=code,
        severity=text["severity"],
        message=text["message"].format(count=count, **gaps),
        advice=text["advice"].format(**gaps),
        variants=tuple(variants),
        count=count,
        caps_verdicts=text["severity"] == "serious",
    )


def _completeness(facts: Facts) -> Iterator[DataWarning]:
    whole = [one for one in facts.coverages if one.experiment == "all"]
    missing = [one for one in whole if one.missing]
    if missing:
        names = (one.variant for one in missing)
        expected = sum(one.expected for one in whole)
        found = _warning("incomplete_logs", names, sum(one.missing for one in missing), expected=expected)
        if max(one.missing / one.expected for one in missing) > MISSING_REPORTS:
            found = found.model_copy(update={"severity": "serious", "caps_verdicts": True})
        yield found
    if facts.rows["call_id"].drop_nulls().len() == 0 and facts.rows.height:
        yield _warning("no_client_records")
    silent = [key for key in facts.variants if not (facts.rows["variant"] == key).any()]
    if silent:
        yield _warning("not_measured", silent, len(silent), all=len(facts.variants))
    if facts.manifest.finished_at is None:
        yield _warning("unfinished_run", run_id=facts.manifest.run_id)


def _failures(facts: Facts) -> Iterator[DataWarning]:
    times = pl.col("duration_ms", "client_latency_ms", "latency_from_intended_ms")
    yield from facts.about("impossible_times", pl.any_horizontal(times <= 0))
    for outcome in ("out_of_memory", "init_timeout", "timeout"):
        yield from facts.about(outcome, pl.col("outcome") == outcome)


def _contention(facts: Facts) -> Iterator[DataWarning]:
    kept = [key for key, part in facts.measured.parts.items() if key[2] != "any" and key[1] != "load" and _kept(part)]
    if kept:
        yield _warning("host_contended", sorted({key[0] for key in kept}), len(kept))
    excluded = int((facts.measured.rows["rule"] == "host_contended").sum())
    if excluded:
        yield _warning("host_contended_samples", count=excluded)


def _kept(part: pl.DataFrame) -> bool:
    """Whether contended samples of this cell count because too many of its samples are contended."""
    return bool((part["rule"].is_null() & part["host_contended"].fill_null(value=False)).any())


def _restarted_loads(facts: Facts) -> Iterator[DataWarning]:
    if facts.measured.broken_off:
        yield _warning("broken_off_load", count=facts.measured.broken_off)


def _shared_state(facts: Facts) -> Iterator[DataWarning]:
    """Ids that several environments answer: what init made up is in the snapshot, and so in every restore of it.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    shared = (
        facts.rows.lazy()
        .filter(pl.col("environment_id").is_not_null() & pl.col("log_stream").is_not_null())
        .group_by("variant", "environment_id")
        .agg(pl.col("log_stream").n_unique())
        .filter(pl.col("log_stream") > 1)
        .collect()
    )
    if shared.height:
        yield _warning("shared_random_state", facts.of(shared), shared.height)


def _own_function(facts: Facts) -> Iterator[DataWarning]:
    ok = facts.rows.lazy().filter(pl.col("outcome") == "ok").select("variant", "handler_ms").collect()
    told = set(facts.of(ok.filter(pl.col("handler_ms").is_not_null())))
    silent = [key for key in facts.of(ok) if key not in told]
    if silent:
        yield _warning("no_handler_facts", silent, len(silent))


def _random_weights(facts: Facts) -> Iterator[DataWarning]:
    models = [model for model, kinds in facts.weights.items() if "random" in kinds]
    if models:
        yield _warning("random_weights", names=", ".join(DISPLAY_NAMES.get(model, model) for model in models))


def _prices(facts: Facts) -> Iterator[DataWarning]:
    endpoint, prices = facts.manifest.endpoint, facts.prices
    kept, region = len(prices.values) - len(prices.overrides), endpoint.region
    if endpoint.source == "aws" and region != prices.region and kept:
        yield _warning("prices_of_another_region", kept=kept, all=len(prices.values), of=prices.region, region=region)
    if prices.of_table:
        names = ", ".join(prices.of_table)
        yield _warning("prices_not_listed", missing=len(prices.of_table), names=names, region=prices.region)


def _lab(facts: Facts) -> Iterator[DataWarning]:
    endpoint = facts.manifest.endpoint
    if endpoint.source != "lab":
        return
    if endpoint.not_modelled:
        yield _warning("lab_not_modelled", names=", ".join(endpoint.not_modelled))
    if endpoint.limits.not_enforced:
        yield _warning("no_limits", names=" and ".join(endpoint.limits.not_enforced))
    if endpoint.time_scale != 1:
        yield _warning("time_scale", time_scale=endpoint.time_scale)


def _instruction_sets(facts: Facts) -> Iterator[DataWarning]:
    endpoint = facts.manifest.endpoint
    wide = [name for name in endpoint.isa if name.startswith(("avx512", "amx", "avx_vnni"))]
    engines = dict.fromkeys(variant.engine for variant in facts.variants.values())
    free = [engine for engine in engines if engine not in CAPPED_ENGINES or not endpoint.isa_cap]
    if wide and free:
        names = " and ".join(ENGINE_NAMES.get(engine, engine) for engine in free)
        of = (key for key, variant in facts.variants.items() if variant.engine in free)
        yield _warning("wider_instructions", of, len(free), names=names, sets=", ".join(wide))


def _cold_starts(facts: Facts) -> Iterator[DataWarning]:
    unasked = pl.col("initialization").fill_null("") != PROVISIONED
    if "cold" in facts.manifest.experiments:
        scheduled = (pl.col("protocol") == "scheduled") & (pl.col("start_type") == "warm")
        yield from facts.about("scheduled_but_warm", scheduled & unasked)
    yield from facts.about("initialised_ahead", (pl.col("init_status") == "ahead") & unasked)


def _provisioned(facts: Facts) -> Iterator[DataWarning]:
    """How many callers found no provisioned environment, and what of the deployment no price holds."""
    variants = {key for key, variant in facts.variants.items() if variant.start == "provisioned"}
    if not variants:
        return
    told = facts.rows.filter(
        pl.col("variant").is_in(sorted(variants)) & (pl.col("experiment") == "load") & ~pl.col("warmup")
        & pl.col("initialization").is_not_null()
    )  # fmt: skip
    spilled = told.filter(pl.col("initialization") != PROVISIONED)
    if spilled.height:
        yield _warning("spilled_over", facts.of(spilled), spilled.height, all=told.height)
    if facts.is_scaled:
        yield _warning("scaled_concurrency", (key for key in facts.variants if key in variants))


def _means(facts: Facts) -> Iterator[DataWarning]:
    carried = [
        key
        for key in facts.variants
        for sample in (facts.measured.cold(key, "billed_ms"), facts.measured.warm(key, "billed_ms"))
        if len(sample) >= SMALLEST_BOOTSTRAP_N and largest_share(sample.values) > max(CARRIED_BY_ONE, 3 / len(sample))
    ]
    if carried:
        yield _warning("mean_carried_by_one_call", dict.fromkeys(carried), len(carried), share=CARRIED_BY_ONE)


def _load_generator(facts: Facts) -> Iterator[DataWarning]:
    load = load_rows(facts.rows, facts.late_after_ms)
    late, dropped = int(load["late"].sum()), int((load["outcome"] == "dropped").sum())
    if load.height and (late + dropped) / load.height > MANY_LATE:
        yield _warning("load_generator", count=late + dropped, late=late, dropped=dropped, all=load.height)


def _metrics(facts: Facts) -> Iterator[DataWarning]:
    disagreeing = [check for check in facts.metric_checks if check.agrees is False]
    if disagreeing:
        names = sorted({check.variant for check in disagreeing})
        yield _warning("metrics_disagree", names, len(disagreeing), first=disagreeing[0])


SUBJECTS: Final[tuple[Callable[[Facts], Iterator[DataWarning]], ...]] = (
    _completeness,
    _failures,
    _contention,
    _restarted_loads,
    _shared_state,
    _own_function,
    _random_weights,
    _prices,
    _lab,
    _instruction_sets,
    _cold_starts,
    _provisioned,
    _means,
    _load_generator,
    _metrics,
)
