"""Which invocations count for which figure: cells, and the rules that keep samples apart. No I/O.

A cell is one variant in one experiment with one start type. Each invocation of a cell falls under the first rule of
`ExclusionRule` that holds for it, or counts:

- `failed`: it has an outcome other than ok. It is counted as an outcome and has no latency to estimate.
- `warmup`: a labeled warm-up call of the warm experiment.
- `first_after_deploy`: the first start of a new image.
- `initialised_ahead`: the platform had initialized its environment before it was asked for. Neither a cold start that
  somebody waited for nor a call of a used environment. Kept in load cells, where it is what users meet, and in the
  cold experiment where provisioned concurrency asked for it.
- `burst`: sent together with others; burst protocols are shown apart.
- `start_unknown`: nothing says whether its environment was new.
- `broken_off`: a call of a load that was interrupted and restarted; in no cell, not even as an outcome.
- `host_contended`: the lab's host was short of CPU. Excluded from cold and warm cells as long as that leaves at least
  half of the samples of every variant. Otherwise they count in all variants alike, and the cell says how many: what is
  left would be a choice of quiet moments. In load cells they always count: contention is what load does to a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.estimate.environments import Sample
from analysis.estimate.estimates import Samples, distribution, share
from analysis.summary import METRICS, Cell, ColdRatio, Coverage
from core.run.records import INVOCATION_COLUMNS, PROVISIONED, WITHOUT_LOG
from core.run.stages import RESTARTED, SEARCH
from core.run.swapping import SWAPPING
from core.variants import Variant

_KEYS: Final = ("variant", "experiment", "start_type")

# What estimates, checks and figures look at. The identifiers are most of a row's bytes.
ANALYSED_COLUMNS: Final = tuple(
    name
    for name in INVOCATION_COLUMNS
    if name
    not in {
        "schema_version",
        "run_id",
        "source",
        "region",
        "host",
        "engine",
        "architecture",
        "request_id",
        "gateway_request_id",
        "call_number",
        "error",
        "logged_at",
        "limits",
        "time_scale",
    }
)


def with_rules(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `total_ms` and `rule`: the first exclusion rule that holds, null where the sample counts.

    Where a load call had to open a connection, its latency is less the time that took, as in warm calls: calls on kept
    and on new connections are alike then, and the moments that want new ones stay in the sample.
    """
    asked_for = (pl.col("experiment") == "cold") & (pl.col("initialization").fill_null("") == PROVISIONED)
    rule = (
        pl.when(pl.col("outcome") != "ok")
        .then(pl.lit("failed"))
        .when(
            (pl.min_horizontal("duration_ms", "client_latency_ms", "latency_from_intended_ms") <= 0).fill_null(
                value=False
            )
        )
        .then(pl.lit("impossible_time"))
        .when(pl.col("warmup"))
        .then(pl.lit("warmup"))
        .when(pl.col("first_after_deploy"))
        .then(pl.lit("first_after_deploy"))
        .when((pl.col("init_status") == "ahead") & (pl.col("experiment") != "load") & ~asked_for)
        .then(pl.lit("initialised_ahead"))
        .when(pl.col("protocol") == "burst")
        .then(pl.lit("burst"))
        .when(pl.col("start_type") == "unknown")
        .then(pl.lit("start_unknown"))
        .when(pl.col("host_contended") & (pl.col("experiment") != "load"))
        .then(pl.lit("host_contended"))
        .otherwise(None)
    )
    ahead = pl.col("init_status").fill_null("") == "ahead"
    return rows.with_columns(
        pl.col("latency_from_intended_ms") - pl.col("connect_ms").fill_null(0.0),
        (
            pl.col("duration_ms")
            + pl.col("restore_ms").fill_null(0.0)
            + pl.when(ahead).then(0.0).otherwise(pl.col("init_ms").fill_null(0.0))
        ).alias("total_ms"),
        rule.alias("rule"),
        pl.coalesce("log_stream", "environment_id")
        .cast(pl.Categorical)
        .to_physical()
        .cast(pl.Int64)
        .alias("environment"),
    )


def kept(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """Return the rows that meet a condition; where all do, the frame itself, as a copy of a million rows is large."""
    meets = rows.select(condition.fill_null(value=False)).to_series()
    return rows if meets.all() else rows.filter(meets)


class Measured:
    """The samples of a run by cell, as the estimates, the claims and the recommendation take them."""

    def __init__(self, rows: pl.DataFrame) -> None:
        # The swapping experiment runs functions at memory sizes that are not their variant's; it is judged apart.
        # A search offers rates near the highest one, not those of any traffic; it has its own result.
        apart = pl.col("protocol").is_in([SWAPPING, RESTARTED, SEARCH]).fill_null(value=False)
        mine = with_rules(kept(rows, ~apart))
        self.broken_off = rows.filter(pl.col("protocol") == RESTARTED).height
        # Sorted once, a cell is a slice; cut out one by one, a million rows would be held three times.
        self.rows = mine.sort(_KEYS, maintain_order=True)
        self.parts: dict[tuple[str, str, str], pl.DataFrame] = {}
        lengths = self.rows.group_by(_KEYS, maintain_order=True).len()
        loads: dict[str, tuple[int, int]] = {}
        offset = 0
        for variant, experiment, start_type, length in lengths.iter_rows():
            if experiment is not None:
                self.parts[variant, experiment, start_type] = self.rows.slice(offset, length)
            if experiment == "load":
                first, total = loads.get(variant, (offset, 0))
                loads[variant] = first, total + length
            offset += length
        for variant, (first, total) in loads.items():
            self.parts[variant, "load", "any"] = self.rows.slice(first, total)
        settle(self.parts)
        self._samples: dict[tuple[str, str, str, str], Sample] = {}

    def sample(self, variant: str, experiment: str, start_type: str, metric: str) -> Sample:
        """The samples of one metric that count, with their environments; may be empty."""
        key = (variant, experiment, start_type, metric)
        if key not in self._samples:
            part = self.parts.get(key[:3])
            self._samples[key] = NO_SAMPLE if part is None else samples_of(part, (metric,))[metric]
        return self._samples[key]

    def samples(self, variant: str, experiment: str, start_type: str, metric: str) -> Samples:
        """One value per environment, ascending, to compare medians; may be empty."""
        return self.sample(variant, experiment, start_type, metric).medians

    def warm(self, variant: str, metric: str) -> Sample:
        """Warm samples of the warm experiment, or of the load where there was no warm experiment."""
        found = self.sample(variant, "warm", "warm", metric)
        return found if len(found) else self.sample(variant, "load", "warm", metric)

    def cold(self, variant: str, metric: str) -> Sample:
        """Cold samples of the cold experiment, or of the load where there was no cold experiment."""
        found = self.sample(variant, "cold", "cold", metric)
        return found if len(found) else self.sample(variant, "load", "cold", metric)

    def latency(self, variant: str) -> Sample:
        """Warm client latency; the duration where no client recorded."""
        found = self.warm(variant, "client_latency_ms")
        return found if len(found) else self.warm(variant, "duration_ms")


NO_SAMPLE: Final = Sample.of([])


def samples_of(part: pl.DataFrame, metrics: Iterable[str]) -> dict[str, Sample]:
    """The values of a cell that count, by metric; a call whose environment is unknown counts as its own environment.

    Latencies of kept and of new connections are never pooled: those of kept ones count where there are some.
    """
    counting = part.filter(pl.col("rule").is_null())
    kept = counting.filter(pl.col("connection") != "new")
    if not (kept["connection"] == "kept").any():
        kept = counting
    environments = {id(rows): _environments(rows) for rows in (counting, kept)}
    found = {}
    for metric in metrics:
        rows = kept if metric == "client_latency_ms" else counting
        found[metric] = Sample.of(rows[metric].cast(pl.Float64).to_numpy(), environments[id(rows)])
    return found


def _environments(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    own = -1 - pl.int_range(pl.len(), dtype=pl.Int64)
    return rows.select(pl.coalesce("environment", own))["environment"].to_numpy()


def settle(parts: dict[tuple[str, str, str], pl.DataFrame]) -> None:
    """Let contended samples count, in every variant alike, where excluding them would leave some less than half.

    Variants are compared with each other, so one rule holds for all cells of an experiment and start type.
    """
    contended = {
        key: int((part["rule"] == "host_contended").fill_null(value=False).sum()) for key, part in parts.items()
    }
    keep = {key[1:] for key, part in parts.items() if contended[key] > int(part["rule"].is_null().sum())}
    for key, part in parts.items():
        if contended[key] and key[1:] in keep:
            rule = pl.col("rule")
            parts[key] = part.with_columns(pl.when(rule == "host_contended").then(None).otherwise(rule).alias("rule"))


def make_cells(measured: Measured, variants: Mapping[str, Variant]) -> tuple[Cell, ...]:
    """The cells in the order of the matrix, the experiments and the start types."""
    order = {key: place for place, key in enumerate(variants)}
    starts = {"cold": 0, "warm": 1, "any": 2, "unknown": 3}
    experiments = {"cold": 0, "warm": 1, "load": 2}
    keys = sorted(
        (key for key in measured.parts if key[0] in variants),
        key=lambda key: (order[key[0]], experiments[key[1]], starts[key[2]]),
    )
    return tuple(make_cell(measured.parts[key], variants[key[0]], key[1], key[2]) for key in keys)


def make_breakdown(measured: Measured, variants: Mapping[str, Variant]) -> tuple[Cell, ...]:
    """Cells by protocol, burst size and connection, in the order of `make_cells`."""
    found = []
    keys = [key for one in variants for key in sorted(measured.parts) if key[0] == one and key[1] != "load"]
    for key, experiment, start_type in keys:
        part = measured.parts[key, experiment, start_type]
        detailed = part.with_columns(
            pl.when(pl.col("rule") == "burst").then(None).otherwise(pl.col("rule")).alias("rule"),
            pl.col("group").str.extract(r"^burst-(\d+)/").cast(pl.Int32).alias("burst_size"),
        )
        groups = detailed.partition_by(["protocol", "connection", "burst_size"], as_dict=True, maintain_order=True)
        for (protocol, connection, burst_size), group in sorted(groups.items(), key=lambda item: str(item[0])):
            found.append(
                make_cell(
                    group,
                    variants[key],
                    experiment,
                    start_type,
                    protocol=str(protocol or ""),
                    connection="" if connection in (None, "none") else str(connection),
                    burst_size=burst_size if isinstance(burst_size, int) else None,
                )
            )
    return tuple(found)


def make_cell(part: pl.DataFrame, variant: Variant, experiment: str, start_type: str, **more: Any) -> Cell:
    """One cell from its rows with rules."""
    counting = part.filter(pl.col("rule").is_null())
    metrics = {metric: distribution(metric, held) for metric, held in samples_of(part, METRICS).items() if len(held)}
    return Cell.model_validate(
        {
            "variant": variant.key,
            "model": variant.model,
            "engine": variant.engine,
            "architecture": variant.architecture,
            "memory_mb": variant.memory_mb,
            "experiment": experiment,
            "start_type": start_type,
            "n": counting.height,
            "outcomes": counts(part["outcome"]),
            "excluded": counts(part["rule"]),
            "host_contended": int(counting["host_contended"].fill_null(value=False).sum()),
            "weights": tuple(sorted(part["weights"].drop_nulls().unique().to_list())),
            "metrics": metrics,
            **more,
        }
    )


def counts(column: pl.Series) -> dict[str, int]:
    """How often each value occurs, most frequent first; nulls left out."""
    found = column.drop_nulls().value_counts(sort=True)
    return {str(value): int(count) for value, count in found.iter_rows()}


def cold_ratios(rows: pl.DataFrame, variants: Mapping[str, Variant]) -> tuple[ColdRatio, ...]:
    """Share of cold starts among the invocations whose start is known, by variant, experiment and protocol."""
    keys = ["variant", "experiment", "protocol"]
    known = (
        rows.lazy()  # so that it copies no other columns
        .filter(pl.col("experiment").is_not_null() & pl.col("variant").is_in(list(variants)) & ~pl.col("warmup"))
        .select(*keys, "start_type", "start_evidence")
        .collect()
    )
    tally: dict[tuple[str, str, str | None], tuple[dict[str, int], dict[str, int]]] = {}
    for which, column in enumerate(("start_type", "start_evidence")):
        counted = known.group_by(*keys, column, maintain_order=True).len().sort("len", descending=True)
        for variant, experiment, protocol, value, count in counted.iter_rows():
            if value is not None:
                tally.setdefault((variant, experiment, protocol), ({}, {}))[which][value] = count
    found = []
    for (variant, experiment, protocol), (starts, evidence) in tally.items():
        cold, warm = starts.get("cold", 0), starts.get("warm", 0)
        found.append(
            ColdRatio.model_validate(
                {
                    "variant": variant,
                    "experiment": experiment,
                    "protocol": protocol or "",
                    "n": sum(starts.values()),
                    "cold": cold,
                    "warm": warm,
                    "unknown": starts.get("unknown", 0),
                    "ratio": share(cold, cold + warm),
                    "evidence": evidence,
                }
            )
        )
    order = {key: place for place, key in enumerate(variants)}
    return tuple(sorted(found, key=lambda ratio: (order[ratio.variant], ratio.experiment, ratio.protocol)))


def coverage(rows: pl.DataFrame, variants: Mapping[str, Variant]) -> tuple[Coverage, ...]:
    """Found / sent, per variant and experiment, and per variant over all."""
    sent = pl.col("call_id").is_not_null() & (pl.col("outcome") != "dropped")
    expected = sent & ~pl.col("outcome").is_in(WITHOUT_LOG)
    # A call is found once its report is: a log that holds no more than its START tells neither time nor cost.
    in_logs = pl.col("log_stream").is_not_null() & pl.col("duration_ms").is_not_null()
    sums = [
        sent.sum().alias("sent"),
        expected.sum().alias("expected"),
        (expected & in_logs).sum().alias("found"),
        (pl.col("call_id").is_null() & in_logs).sum().alias("logs_only"),
    ]
    tables = [
        rows.group_by("variant", "experiment").agg(sums),
        rows.group_by("variant").agg(pl.lit("all").alias("experiment"), *sums),
    ]
    by_key: dict[tuple[str, str], dict[str, Any]] = {}
    for table in tables:
        for line in table.iter_rows(named=True):
            if line["experiment"] is not None:
                by_key[line["variant"], line["experiment"]] = line
    found = []
    for variant in variants:
        for experiment in ("all", "cold", "warm", "load"):
            if (variant, experiment) not in by_key and experiment != "all":
                continue
            line = {"sent": 0, "expected": 0, "found": 0} | by_key.get((variant, experiment), {})
            more = {
                "variant": variant,
                "experiment": experiment,
                "share": line["found"] / line["expected"] if line["expected"] else None,
                "missing": line["expected"] - line["found"],
                "reason": "" if line["sent"] else "no client records: what was sent is unknown",
            }
            found.append(Coverage.model_validate(line | more))
    return tuple(found)
