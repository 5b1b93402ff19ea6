"""The paper's claims C1 to C11, each with a written rule and a verdict from the data.

Every rule compares medians (or mean costs) and decides by 95% intervals: `supported` needs the interval on the claim's
side everywhere, `refuted` needs it against the claim somewhere, anything between is `undetermined`. Where the data
break their contract a verdict is `provisional`. The thresholds that turn a paper's words into numbers are here, and
in docs/explanation/claims.md with their reasons. Statements and rules are in claims.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from analysis.estimate.cells import Measured, kept
from analysis.estimate.estimates import (
    SMALLEST_BOOTSTRAP_N,
    Samples,
    bootstrap_medians,
    clean,
    compare_medians,
    mean_draws,
    quantile,
    share,
)
from analysis.summary import NOTHING_ENFORCED, Claim, ClaimNumber, Estimate, Verdict
from analysis.texts import texts
from core.models import ENGINE_NAMES, PAPER_MODELS, by_multiply_adds
from core.money.prices import MB_PER_GB, Prices
from core.run.swapping import CELL_PATTERN, SWAPPING
from core.variants import DISPLAY_NAMES, PAPER_ARCHITECTURE, PAPER_ENGINE, Image, Variant

HARDLY: Final = 0.10  # "hardly falls": by less than this share
SLOWER_STEP: Final = 1.05  # a step to more memory may be slower by this much before it counts against C1
FAR_MORE: Final = 2.0  # "costs far more": at least twice
NO_RELATION: Final = 0.20  # "no evident relation": largest and smallest size differ by less than this share
ABOUT: Final = 0.20  # "about what it is warm": within this share
ANSWERED_UNDER_LOAD: Final = 0.99
CLAIMED_RATE_RPS: Final = 100.0
GATEWAY_LIMIT_MS: Final = 29_000.0
RARE: Final = 0.01
MEAN_DRAWS: Final = 2000
STILL_COLD: Final = 0.05
KNEE_MB: Final = {"mobilenet": 1500, "resnet50": 1750, "inceptionv3": 1750}
FLOPS_ORDER: Final = tuple(by_multiply_adds(PAPER_MODELS))
TEXTS: Final = Path(__file__).with_name("claims.toml")
# Values that the texts of the rules quote.
THRESHOLDS: Final = {
    "hardly": HARDLY,
    "slower_step": SLOWER_STEP - 1,
    "far_more": FAR_MORE,
    "no_relation": NO_RELATION,
    "about": ABOUT,
    "answered": ANSWERED_UNDER_LOAD,
    "rate_rps": CLAIMED_RATE_RPS,
    "rare": RARE,
    "still_cold": STILL_COLD,
    "smallest_n": SMALLEST_BOOTSTRAP_N,
}
API: Final = "client_latency_ms"
NOT_THE_PAPERS: Final = (
    f"not measured: {ENGINE_NAMES[PAPER_ENGINE]} on {PAPER_ARCHITECTURE}, as in the paper, is not in the matrix"
)
METRIC_NAMES: Final = {API: "API latency", "inference_ms": "inference", "duration_ms": "duration"}


@dataclass
class Evidence:
    """Gathers the numbers of one claim and what each says: +1 for it, -1 against it, 0 neither."""

    numbers: list[ClaimNumber] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # models of the matrix that the data say nothing of

    def add(self, label: str, estimate: Estimate, sign: int, note: str = "", *, unit: str = "ratio") -> None:
        self.show(label, estimate, unit)
        self.signs.append(sign)
        self.samples.append(estimate.n)
        if note:
            self.notes.append(note)

    def show(self, label: str, estimate: Estimate, unit: str = "ratio") -> None:
        """Add a number that decides nothing."""
        number = estimate.model_dump(include={"value", "low", "high", "n"})
        self.numbers.append(ClaimNumber(label=label, unit=unit, **number))

    def leave_open(self, what: str) -> None:
        """Note the models that are missing: every model means these, too."""
        names = [DISPLAY_NAMES.get(model, model) for model in self.missing]
        if self.signs and names:
            self.signs.append(0)
            self.notes.append(f"{', '.join(names)}: {what}.")

    @property
    def verdict(self) -> Verdict:
        if any(sign < 0 for sign in self.signs):
            return "refuted"
        if self.signs and all(sign > 0 for sign in self.signs):
            return "supported"
        return "undetermined"

    def why(self, nothing: str) -> str:
        if not self.signs:
            return nothing
        for_it = sum(sign > 0 for sign in self.signs)
        against = sum(sign < 0 for sign in self.signs)
        text = f"{for_it} of {len(self.signs)} comparisons for it, {against} against it."
        return " ".join([text, *self.notes[:6]])


@dataclass(frozen=True)
class Context:
    """What the rules look at: the variants of the paper's engine and architecture, and the rows of these."""

    measured: Measured
    variants: Sequence[Variant]
    prices: Prices
    accuracies: Mapping[str, float]
    load_end_rps: float
    lab: bool
    random: np.random.Generator
    swapping: SwappingEvidence | None = None
    comparable: bool = True  # whether memory sizes differ in more than their name
    breaches: tuple[str, ...] = ()  # of the data contract: no verdict is more than provisional then

    def rows(self) -> pl.DataFrame:
        """Return the calls of these variants."""
        return kept(self.measured.rows, pl.col("variant").is_in([variant.key for variant in self.variants]))

    def by_model(self) -> dict[str, list[Variant]]:
        """Variants of each model, memory ascending."""
        models: dict[str, list[Variant]] = {}
        for variant in sorted(self.variants, key=lambda v: v.memory_mb):
            models.setdefault(variant.model, []).append(variant)
        return models

    def warm(self, variant: Variant, metric: str) -> Samples:
        """One value per environment, because calls of one environment are alike."""
        return self.measured.warm(variant.key, metric).medians

    def cold(self, variant: Variant, metric: str) -> Samples:
        return self.measured.cold(variant.key, metric).medians

    def with_warm(self, variants: Sequence[Variant], metric: str) -> list[Variant]:
        return [variant for variant in variants if len(self.warm(variant, metric))]

    def ratio(self, a: Samples, b: Samples) -> Estimate:
        return compare_medians(a, b, self.random).ratio

    def usd_ratio(self, a: Variant, b: Variant, n: int) -> Estimate | None:
        """Ratio of two mean compute costs; None where either is unknown."""
        mine, theirs = self.usd_draws(a), self.usd_draws(b)
        if mine is None or theirs is None:
            return None
        low, high = np.quantile(mine[1] / theirs[1], (0.025, 0.975))
        return Estimate(value=mine[0] / theirs[0], low=float(low), high=float(high), n=n)

    def usd_draws(self, variant: Variant) -> tuple[float, Samples] | None:
        """Mean compute cost in USD of a million warm calls, and bootstrap draws of it."""
        billed = self.measured.warm(variant.key, "billed_ms")
        draws = mean_draws(billed, self.random, MEAN_DRAWS)
        if draws is None:
            return None
        factor = variant.memory_mb / MB_PER_GB * 1000 * self.prices.gb_second_usd(variant.architecture)
        return float(billed.values.mean()) * factor, draws * factor


SwappingPoint = tuple[Image, int, float]  # memory in MB, CPU share in vCPU


@dataclass(frozen=True)
class SwappingEvidence:
    """Medians of the experiment that varies CPU share and memory apart from each other (`experiments swapping`).

    `cells` maps a point of the grid to inference times in ms; `faults` to major page faults a call.
    """

    cells: Mapping[SwappingPoint, Samples]
    faults: Mapping[SwappingPoint, float]
    killed: Mapping[SwappingPoint, int] = field(default_factory=dict)


def read_swapping(rows: pl.DataFrame, variants: Mapping[str, Variant]) -> SwappingEvidence | None:
    """The evidence on C11 from rows of the swapping experiment, whose group names the cell; None without any."""
    named = pl.col("group").str.extract_groups(CELL_PATTERN)
    found = rows.filter((pl.col("protocol") == SWAPPING) & ~pl.col("warmup")).with_columns(
        named.struct.field("memory_mb").cast(pl.Int64).alias("cell_mb"),
        named.struct.field("vcpu").cast(pl.Float64).alias("cell_vcpu"),
    )
    found = found.filter(pl.col("cell_mb").is_not_null() & pl.col("cell_vcpu").is_not_null())
    if not found.height:
        return None
    cells: dict[SwappingPoint, Samples] = {}
    faults: dict[SwappingPoint, float] = {}
    killed: dict[SwappingPoint, int] = {}
    for key, part in found.group_by("variant", "cell_mb", "cell_vcpu", maintain_order=True):
        cell = (variants[str(key[0])].image, int(str(key[1])), float(str(key[2])))
        answered = part.filter((pl.col("outcome") == "ok") & (pl.col("start_type") != "cold"))
        if answered.height:
            cells[cell] = clean(answered["inference_ms"].to_numpy())
        counted = answered["major_page_faults"].drop_nulls()
        if counted.len():
            faults[cell] = float(counted.to_numpy().mean())
        killed[cell] = int((part["outcome"] == "out_of_memory").sum())
    return SwappingEvidence(cells=cells, faults=faults, killed=killed)


def judge(context: Context) -> tuple[Claim, ...]:
    """All claims in the paper's order."""
    return tuple(_claim(context, number, gather) for number, gather in _CLAIMS.items())


def _claim(context: Context, number: str, gather: Callable[[Context, Evidence], None]) -> Claim:
    text = {name: words.format(**THRESHOLDS) for name, words in texts(TEXTS)[number].items()}
    evidence, nothing = Evidence(), text["needs"]
    gather(context, evidence)
    evidence.leave_open(text.get("open", ""))
    if not context.variants:
        evidence, nothing = Evidence(), NOT_THE_PAPERS
    if number in COMPARES_SIZES and not context.comparable:
        evidence, nothing = Evidence(), NOTHING_ENFORCED
    capped = ""
    if context.breaches and evidence.verdict != "undetermined":
        capped = f"It would be {evidence.verdict}, but {'; '.join(context.breaches)}. "
    return Claim(
        id=number,
        statement=text["statement"],
        rule=text["rule"],
        verdict="provisional" if capped else evidence.verdict,
        numbers=tuple(evidence.numbers),
        n=min(evidence.samples, default=0),
        why=capped + evidence.why(nothing),
    )


def _side(estimate: Estimate, limit: float) -> int:
    """Return 1 if the whole interval is above a limit, -1 if it is below, otherwise 0."""
    if estimate.low is not None and estimate.low > limit:
        return 1
    return -1 if estimate.high is not None and estimate.high < limit else 0


def _near_one(ratio: Estimate, tolerance: float) -> int:
    """Return 1 if the whole interval is within this share of 1, -1 if it is outside, otherwise 0."""
    low, high = _side(ratio, 1 - tolerance), _side(ratio, 1 + tolerance)
    if low > 0 > high:
        return 1
    return -1 if low < 0 or high > 0 else 0


def _more_memory(context: Context, evidence: Evidence) -> None:
    for model, variants in context.by_model().items():
        for metric in (API, "inference_ms"):
            sizes = context.with_warm(variants, metric)
            if len(sizes) < 2:
                # "Every model" is every model of the matrix: one that was not measured leaves the claim open.
                evidence.signs.append(0)
                evidence.notes.append(
                    f"{DISPLAY_NAMES.get(model, model)} has no two sizes with {METRIC_NAMES[metric]}."
                )
                continue
            first, last = sizes[0], sizes[-1]
            overall = context.ratio(context.warm(last, metric), context.warm(first, metric))
            label = f"{first.display_name} to {last.memory_mb} MB, {METRIC_NAMES[metric]}"
            evidence.add(label, overall, -_side(overall, 1))
            for smaller, larger in pairwise(sizes):
                step = context.ratio(context.warm(larger, metric), context.warm(smaller, metric))
                label = f"{smaller.display_name} to {larger.memory_mb} MB, {METRIC_NAMES[metric]}"
                sign = -_side(step, SLOWER_STEP)
                evidence.add(label, step, sign, f"{label} is slower." if sign < 0 else "")


def _knees(context: Context, evidence: Evidence) -> None:
    for model, variants in context.by_model().items():
        beyond = [v for v in context.with_warm(variants, API) if v.memory_mb >= KNEE_MB.get(model, 1750)]
        if len(beyond) < 2:
            evidence.missing.append(model)
            continue
        ratio = context.ratio(context.warm(beyond[-1], API), context.warm(beyond[0], API))
        label = f"{beyond[0].display_name} to {beyond[-1].memory_mb} MB"
        evidence.add(label, ratio, _side(ratio, 1 - HARDLY))


def _order(context: Context, evidence: Evidence) -> None:
    models = context.by_model()
    for faster, slower in pairwise([model for model in FLOPS_ORDER if model in models]):
        slow_by_size = {variant.memory_mb: variant for variant in models[slower]}
        for variant in models[faster]:
            other = slow_by_size.get(variant.memory_mb)
            for metric in (API, "inference_ms"):
                if other is None or not len(context.warm(variant, metric)) or not len(context.warm(other, metric)):
                    continue
                ratio = context.ratio(context.warm(variant, metric), context.warm(other, metric))
                label = f"{variant.display_name} compared with {DISPLAY_NAMES[slower]}, {METRIC_NAMES[metric]}"
                sign = -_side(ratio, 1)
                evidence.add(label, ratio, sign, f"{label} is slower." if sign < 0 else "")


def _cold_far_more(context: Context, evidence: Evidence) -> None:
    missing = set(context.by_model())
    for variant in context.variants:
        cold, warm = context.cold(variant, "total_ms"), context.warm(variant, "total_ms")
        if len(cold) and len(warm):
            missing.discard(variant.model)
            ratio = context.ratio(cold, warm)
            evidence.add(variant.display_name, ratio, _side(ratio, FAR_MORE))
    evidence.missing = sorted(missing)


def _overhead_and_memory(context: Context, evidence: Evidence) -> None:
    for model, variants in context.by_model().items():
        both = [
            v
            for v in context.with_warm(variants, "total_ms")
            if len(context.cold(v, "total_ms")) >= SMALLEST_BOOTSTRAP_N
            and len(context.warm(v, "total_ms")) >= SMALLEST_BOOTSTRAP_N
        ]
        if len(both) < 2:
            evidence.missing.append(model)
            continue
        values, draws, sizes = [], [], []
        for variant in (both[0], both[-1]):
            cold, warm = context.cold(variant, "total_ms"), context.warm(variant, "total_ms")
            values.append(quantile(cold, 0.5) - quantile(warm, 0.5))
            draws.append(bootstrap_medians(cold, context.random) - bootstrap_medians(warm, context.random))
            sizes.append(min(len(cold), len(warm)))
        if values[0] <= 0 or (draws[0] <= 0).any():
            evidence.missing.append(model)
            continue
        low, high = np.quantile(draws[1] / draws[0], (0.025, 0.975))
        ratio = Estimate(value=values[1] / values[0], low=float(low), high=float(high), n=min(sizes))
        label = f"{both[0].display_name} to {both[-1].memory_mb} MB, overhead"
        evidence.add(label, ratio, _near_one(ratio, NO_RELATION))


def _load_like_warm(context: Context, evidence: Evidence) -> None:
    missing = set(context.by_model())
    # A load that stays below the claim's rate can refute the claim, not support it.
    best_sign = 1 if context.load_end_rps >= CLAIMED_RATE_RPS else 0
    for variant in context.variants:
        part = context.measured.parts.get((variant.key, "load", "any"))
        warm = context.measured.samples(variant.key, "warm", "warm", API)
        # Like with like: warm starts on both sides; what the cold ones add is claim C4's.
        load = context.measured.samples(variant.key, "load", "warm", "latency_from_intended_ms")
        if part is None or not len(warm) or not len(load):
            continue
        missing.discard(variant.model)
        ratio = context.ratio(load, warm)
        label = f"{variant.display_name}, latency under load"
        evidence.add(label, ratio, min(best_sign, _near_one(ratio, ABOUT)))
        # Warm-up calls come before the shape, one after another: they are no part of the load that was offered.
        offered = part.filter(~pl.col("warmup"))
        answered = share(int((offered["outcome"] == "ok").sum()), offered.height)
        label = f"{variant.display_name}, answered under load"
        evidence.add(label, answered, min(best_sign, _side(answered, ANSWERED_UNDER_LOAD)), unit="share")
    if evidence.signs and not best_sign:
        evidence.notes.append(
            f"The load rose to {context.load_end_rps:g} requests/s only; the claim speaks of {CLAIMED_RATE_RPS:g}."
        )
    evidence.missing = sorted(missing)


def _mobilenet_cheapest(context: Context, evidence: Evidence) -> None:
    for variant in context.by_model().get("mobilenet", []):
        for other in context.variants:
            if other.model == "mobilenet" or other.memory_mb != variant.memory_mb:
                continue
            n = min(len(context.warm(variant, "billed_ms")), len(context.warm(other, "billed_ms")))
            ratio = context.usd_ratio(variant, other, n)
            if ratio is not None:
                label = f"{variant.display_name} compared with {DISPLAY_NAMES[other.model]}, compute cost"
                evidence.add(label, ratio, -_side(ratio, 1))
    others = [value for model, value in context.accuracies.items() if model != "mobilenet"]
    if evidence.signs and others and "mobilenet" in context.accuracies:
        accuracy = context.accuracies["mobilenet"]
        evidence.notes.append(
            f"Published top-1 accuracies: MobileNet {accuracy:.3f}, the others from {min(others):.3f}."
        )
        if accuracy >= min(others):
            evidence.signs.append(-1)


def _dearer_not_faster(context: Context, evidence: Evidence) -> None:
    for model, variants in context.by_model().items():
        ran = context.with_warm(variants, API)
        lower = next((v for v in ran if 1450 <= v.memory_mb <= 1600), None)
        upper = next((v for v in reversed(ran) if 1950 <= v.memory_mb <= 2100), None)
        if lower is None or upper is None:
            evidence.missing.append(model)
            continue
        sizes = f"{lower.display_name} to {upper.memory_mb} MB"
        latency = context.ratio(context.warm(upper, API), context.warm(lower, API))
        evidence.add(f"{sizes}, API latency", latency, _side(latency, 1 - HARDLY))
        cost = context.usd_ratio(upper, lower, latency.n)
        if cost is not None:
            evidence.add(f"{sizes}, compute cost", cost, _side(cost, 1))


def _over_the_gateways_limit(context: Context, evidence: Evidence) -> None:
    rows = context.rows().filter((pl.col("start_type") == "cold") & (pl.col("outcome") != "missing"))
    over = rows.filter((pl.col("total_ms") > GATEWAY_LIMIT_MS) | (pl.col("outcome") == "gateway_timeout")).height
    found = share(over, rows.height)
    # One is enough to show that it can happen; that it cannot is never shown where image fetch is not modeled.
    rare = found.high is not None and found.high < RARE and not context.lab
    if rows.height:
        evidence.add("cold starts over 29 s", found, 1 if over else -1 if rare else 0, unit="share")
        longest = rows["total_ms"].max()
        value = float(longest) if isinstance(longest, (int, float)) else None
        evidence.numbers.append(ClaimNumber(label="longest cold start", value=value, unit="ms", n=rows.height))
        if context.lab and not over:
            evidence.notes.append("The lab does not model the fetch of the image, which is most of such a start.")


def _warm_up_call(context: Context, evidence: Evidence) -> None:
    missing = set(context.by_model())
    for variant in context.variants:
        rows = context.measured.rows.filter(
            (pl.col("variant") == variant.key)
            & (pl.col("experiment") == "warm")
            & pl.col("call_id").is_not_null()
            & (pl.col("outcome") == "ok")
            & ~pl.col("warmup")
            & (pl.col("start_type") != "unknown")
        )
        if rows.height:
            missing.discard(variant.model)
            cold = int((rows["start_type"] == "cold").sum())
            found = share(cold, rows.height)
            label = f"{variant.display_name}, cold after a warm-up call"
            evidence.add(label, found, -_side(found, STILL_COLD), unit="share")
    load = context.rows().filter(
        (pl.col("experiment") == "load") & ~pl.col("warmup") & (pl.col("start_type") != "unknown")
    )
    if evidence.signs and load.height:
        found = share(int((load["start_type"] == "cold").sum()), load.height)
        evidence.show("cold under load", found, "share")
        evidence.notes.append(
            "It holds for one caller at a time: a warm-up call warms one environment, and the load's cold share stands "
            "beside it."
        )
    evidence.missing = sorted(missing)


def _swapping(context: Context, evidence: Evidence) -> None:
    swapping = context.swapping
    if swapping is not None:
        for image in sorted({key[0] for key in swapping.cells if key[0].is_the_papers}):
            name = image.display_name
            keys = [key for key in swapping.cells if key[0] == image]
            # Memory varied, share held: the claim wants an effect here.
            for share_held in sorted({key[2] for key in keys}):
                sizes = sorted(key[1] for key in keys if key[2] == share_held)
                if len(sizes) < 2:
                    continue
                small, large = (image, sizes[0], share_held), (image, sizes[-1], share_held)
                ratio = context.ratio(swapping.cells[large], swapping.cells[small])
                label = f"{name}, {share_held:.2f} vCPU, {sizes[0]} to {sizes[-1]} MB"
                evidence.add(label, ratio, -_side(ratio, 1 - HARDLY))
            # Share varied, memory held: the rival explanation, shown next to it.
            for memory_held in sorted({key[1] for key in keys}):
                shares = sorted(key[2] for key in keys if key[1] == memory_held)
                if len(shares) < 2:
                    continue
                ratio = context.ratio(
                    swapping.cells[image, memory_held, shares[-1]], swapping.cells[image, memory_held, shares[0]]
                )
                evidence.show(f"{name}, {memory_held} MB, {shares[0]:.2f} to {shares[-1]:.2f} vCPU", ratio)
            most = max(swapping.faults.get(key, 0.0) for key in keys)
            evidence.numbers.append(
                ClaimNumber(label=f"{name}, most major page faults a call", value=most, unit="count")
            )
        killed = sum(count for key, count in swapping.killed.items() if key[0].is_the_papers)
        if killed:
            evidence.notes.append(f"{killed} calls were killed for their memory rather than slowed down.")
        evidence.notes.append("Lambda has no swap: a function over its memory is killed.")
    else:
        faults = context.rows()["major_page_faults"].drop_nulls()
        if faults.len():
            evidence.numbers.append(
                ClaimNumber(
                    label="mean major page faults a call",
                    value=float(faults.to_numpy().mean()),
                    unit="count",
                    n=faults.len(),
                )
            )


COMPARES_SIZES: Final = frozenset({"C1", "C2", "C5", "C8", "C11"})
_CLAIMS: Final[dict[str, Callable[[Context, Evidence], None]]] = {
    "C1": _more_memory,
    "C2": _knees,
    "C3": _order,
    "C4": _cold_far_more,
    "C5": _overhead_and_memory,
    "C6": _load_like_warm,
    "C7": _mobilenet_cheapest,
    "C8": _dearer_not_faster,
    "C9": _over_the_gateways_limit,
    "C10": _warm_up_call,
    "C11": _swapping,
}
