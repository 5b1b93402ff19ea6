"""The typed summary of a run: what `summary.json` holds and what the report renders. No I/O.

Every figure that can be missing is None and carries a sentence in `reason`. Times are in milliseconds, money in US
dollars, unless a name says otherwise.

Records name a variant by its key, which `Summary.variants` resolves; no key is parsed.

Schema history
--------------
1  first version
2  `variants` maps keys to variants; `table1` and `swapping` have an engine
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.run.records import EndpointFacts, Experiment, StartType
from core.run.stops import Stop
from core.variants import Image, Start, Variant

SUMMARY_SCHEMA_VERSION: Final = 2

NOTHING_ENFORCED: Final = "nothing enforced the limits that tell memory sizes apart"

# What is estimated of each cell, in the order of the tables: column of the invocations -> (label, unit).
# `total_ms` is the one derived column: init_ms or restore_ms, and duration_ms, what the platform spent on a call from
# its start on.
METRICS: Final[dict[str, tuple[str, str]]] = {
    "client_latency_ms": ("API latency", "ms"),
    "latency_from_intended_ms": ("Latency from intended send time", "ms"),
    "total_ms": ("Init and duration", "ms"),
    "duration_ms": ("Duration", "ms"),
    "billed_ms": ("Billed duration", "ms"),
    "init_ms": ("Init duration", "ms"),
    "restore_ms": ("Restore duration", "ms"),
    "handler_ms": ("Time in the handler", "ms"),
    "inference_ms": ("Inference", "ms"),
    "decode_ms": ("Image decoding", "ms"),
    "import_ms": ("Import of the engine", "ms"),
    "load_ms": ("Loading of the model", "ms"),
    "first_inference_ms": ("First inference", "ms"),
    "max_memory_used_mb": ("Memory used", "MB"),
    "major_page_faults": ("Major page faults", "count"),
}

# Of these, what the handler of this project times itself; a user's own function leaves them out.
HANDLER_METRICS: Final = ("handler_ms", "inference_ms", "decode_ms", "import_ms", "load_ms", "first_inference_ms")

# provisional: the numbers would decide, but the data break their contract
Verdict = Literal["supported", "refuted", "provisional", "undetermined"]
ConstraintVerdict = Literal["meets", "fails", "undetermined"]
Strategy = Literal["on_demand", "snapstart", "provisioned_concurrency", "warm_pings"]
AS_NEEDED: Final[tuple[Strategy, ...]] = ("on_demand", "snapstart")  # these keep no environment warm
ExclusionRule = Literal[
    "failed",  # outcome other than ok: counted as an outcome, has no latency to estimate
    "warmup",  # labeled warm-up calls of the warm experiment
    "host_contended",  # the lab's host was short of CPU
    "first_after_deploy",  # first start of a new image: fetches it from nowhere near
    "initialised_ahead",  # its environment was ready before it was asked for; nobody waited for the init
    "burst",  # sent together with others: shown separately, in the breakdown
    "start_unknown",  # nothing says whether the environment was new
    "impossible_time",  # a duration or latency of 0 or less
    "broken_off",  # of a load that was interrupted and restarted: in no cell, counted over the whole run
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Model):
    """One number with its interval; `value` None, or `low` and `high` None, if n is too small."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int
    reason: str = ""
    approximate: bool = False  # the interval of a mean, never exact: docs/explanation/statistics.md has its coverage


class Distribution(_Model):
    """Percentiles of one metric in one cell, nothing trimmed."""

    metric: str  # a key of METRICS
    unit: str
    n: int
    environments: int = 0  # execution environments that the calls came from: the units of evidence
    effective_n: float | None = None  # how many independent calls would tell the median as well
    within_percent: float | None = None  # standard deviation within an environment, of the mean
    between_percent: float | None = None  # standard deviation between environments, of the mean
    autocorrelation: float | None = None  # of calls that follow each other in one environment
    minimum: float | None
    maximum: float | None
    mean: float | None
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate


class Cell(_Model):
    """One variant in one experiment with one start type.

    In `Summary.cells` protocol, connection and group size are ""/None: all of them that count together. In
    `Summary.breakdown` they are set.
    """

    variant: str
    model: str
    engine: str
    architecture: str
    memory_mb: int
    experiment: Experiment
    start_type: StartType | Literal["any"]  # any: of the load experiment, cold and warm together, as its users see it
    protocol: str = ""
    connection: str = ""
    burst_size: int | None = None
    n: int  # samples in the distributions
    outcomes: dict[str, int]  # of every invocation of the cell, excluded ones too
    excluded: dict[str, int]  # by ExclusionRule; each invocation counts once, under the first rule that holds
    host_contended: int = 0  # contended samples that are in the distributions
    weights: tuple[str, ...] = ()
    metrics: dict[str, Distribution]


class ColdRatio(_Model):
    """Share of cold starts among an experiment's calls, and the evidence for them."""

    variant: str
    experiment: Experiment
    protocol: str
    n: int
    cold: int
    warm: int
    unknown: int
    ratio: Estimate  # exact Clopper-Pearson interval
    evidence: dict[str, int]


class Coverage(_Model):
    """Invocations found in the logs of those that were sent and reached the function."""

    variant: str
    experiment: Experiment | Literal["all"]
    sent: int
    expected: int  # sent, less what cannot have a log line: dropped, throttled, refused connections
    found: int
    share: float | None
    missing: int
    logs_only: int = 0  # invocations in the logs that no client record asked for
    reason: str = ""


class Difference(_Model):
    """Difference of two medians (a - b) with a bootstrap interval, and Cliff's delta as the effect's size."""

    a: str
    b: str
    variant: str
    metric: str
    median_a: float | None
    median_b: float | None
    difference: Estimate
    ratio: Estimate
    cliffs_delta: float | None  # -1: every a below every b; 1: every a above every b
    n_a: int
    n_b: int


class CostPerMillion(_Model):
    """USD per million predictions of one variant and start type; the parts add up to `usd.value`."""

    variant: str
    start_type: Literal["cold", "warm"]
    usd: Estimate  # of the mean billed time, which adds up; its interval is approximate
    median_usd: Estimate | None = None  # of the median billed time, with that one's exact interval
    parts: dict[str, float]  # compute, init (its share of billed time), requests, gateway, logs
    billed_ms_mean: float | None
    gb_seconds: float | None  # per million predictions
    without_gateway_usd: float | None


class FailedCost(_Model):
    """What Lambda billed of one variant for calls that failed, over the whole run: their time and the request fee."""

    variant: str
    failed: int  # calls that failed and may have reached the function
    billed: int  # of these, the ones whose billed time the logs hold
    billed_ms: float  # sum
    usd: float
    share_of_billed: float | None  # of all GB-seconds billed to this variant in the run


class MonthlyCost(_Model):
    """USD per month for the stated traffic, by one way of keeping environments warm."""

    variant: str
    strategy: Strategy
    usd: float | None
    parts: dict[str, float]  # compute, requests, gateway, logs, storage, provisioned, pings
    requests: float
    expected_cold_share: float | None
    environments: float | None  # mean concurrency, provisioned environments or pinged environments
    reason: str = ""


class BreakEven(_Model):
    """Requests per month from which the second strategy costs less than the first, or None with a reason."""

    variant: str
    cheaper_below: Strategy
    cheaper_above: Strategy
    requests_per_month: float | None
    reason: str = ""


class Constraint(_Model):
    """One demand of [goal] held against one variant."""

    variant: str
    name: Literal["bad_share", "top1_accuracy", "cold_share"]
    limit: float
    found: Estimate
    verdict: ConstraintVerdict
    short_by: float | None = None  # by how much it fails, in the unit of `limit`
    text: str


class ParetoPoint(_Model):
    """A variant in the plane of cost, latency and accuracy."""

    variant: str
    usd_per_million: float
    latency_ms: float  # median of warm client latency; duration where no client recorded
    top1_accuracy: float | None
    on_front: bool
    dominated_by: str | None = None


class Knee(_Model):
    """The memory size from which more memory hardly helps, for one model's warm curve."""

    model: str
    engine: str
    architecture: str
    start: Start = "on_demand"
    metric: str
    memory_mb: int | None
    curve: dict[int, float]  # memory size -> median
    reason: str

    @property
    def image(self) -> Image:
        """Return whose curve it is."""
        return Image(self.model, self.engine, self.architecture, self.start)


class ConditionShare(_Model):
    """Calls of one condition that callers meet, and how many of these were bad: failed, or slower than the limit."""

    condition: Literal["cold", "alone", "concurrent"]
    weight: float  # share of the traffic that meets it
    bad: int
    n: int
    environments: int
    source: str  # which calls these are


class Rival(_Model):
    """A cheaper way that the data neither show to meet the goal nor to fail it, and what would decide."""

    variant: str
    strategy: Strategy
    monthly_usd: float
    bad_share: Estimate
    more_calls: int | None  # None: not within a hundred times the calls made
    more_usd: float | None  # at AWS's prices


class WhatIfAnswer(_Model):
    """The answer at one traffic and limit; without a variant, none measured can meet the goal there."""

    variant: str | None = None
    strategy: Strategy | None = None
    environments: int = 0  # kept warm
    meets: bool = False  # beyond the 95% interval, by data that keep their contract; otherwise it is provisional
    monthly_usd: float | None = None
    missed: float | None = None  # share of callers without an answer in time; None where a part was not measured
    missed_low: float | None = None
    missed_high: float | None = None
    cold_share: float | None = None
    p99_ms: float | None = None  # of callers; None where a part was not measured, or where it is not answered
    p99_unanswered: bool = False  # more than 1% of callers get no answer at all
    strategy_usd: dict[Strategy, float] = Field(default_factory=dict)  # of the same variant


Axis = Literal["requests_per_day", "burstiness", "idle_minutes", "limit_ms"]


class WhatIf(_Model):
    """The answer over a grid of traffic and limits, the last axis fastest; `reason` says why it is missing."""

    axes: dict[Axis, tuple[float, ...]]
    answers: tuple[WhatIfAnswer, ...]
    reason: str = ""


class Recommendation(_Model):
    """The answer of the first screen."""

    variant: str | None
    strategy: Strategy | None
    monthly_usd: float | None
    bad_share: Estimate | None = None  # of callers who are not answered correctly within the limit
    conditions: tuple[ConditionShare, ...] = ()  # what that share is made of
    rivals: tuple[Rival, ...] = ()  # cheaper, and not decided
    provisional: tuple[str, ...] = ()  # why the answer is provisional; empty where it is certain
    headline: str  # one sentence
    why: tuple[str, ...]
    how_sure: str
    measured_where: str
    probability_best: dict[str, float]  # by bootstrap; feasible variants alone
    tied: tuple[str, ...]  # variants the data cannot tell from the winner
    constraints: tuple[Constraint, ...]
    goal: dict[str, float]


class ClaimNumber(_Model):
    label: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Claim(_Model):
    """A claim of the paper with its rule and verdict."""

    id: str
    statement: str
    rule: str
    verdict: Verdict
    numbers: tuple[ClaimNumber, ...]
    n: int
    why: str


class Table1Row(_Model):
    """A model as deployed, next to what the paper says of it."""

    model: str
    engine: str
    architecture: str
    display_name: str
    size_mb: float | None
    parameters: int | None
    multiply_adds: int | None
    top1_accuracy: float | None  # quoted: of the published weights
    top5_accuracy: float | None
    accuracy_source: str
    weights: tuple[str, ...]  # that were measured; accuracies are those of imagenet weights
    paper_size_mb: float | None
    paper_top1_accuracy: float | None
    paper_top5_accuracy: float | None
    paper_multiply_adds: float | None
    reason: str = ""


class TouchedFile(_Model):
    """One file that a start reads."""

    file: str  # its name in the image
    mb: float
    advice: str


class TouchedFiles(_Model):
    """What a start reads of its image until the first answer, measured when the image was built."""

    model: str
    engine: str
    architecture: str
    display_name: str
    files: int | None
    mb: float | None
    chunks: int | None  # of 512 KiB, in which Lambda fetches an image
    largest: tuple[TouchedFile, ...] = ()
    reason: str = ""


class LoadSecond(_Model):
    """One second of one variant's load test, by intended send time; `answered` by the time of the answer.

    Repeated loads add up.
    """

    variant: str
    second: int
    offered: int
    sent: int
    answered: int
    ok: int
    dropped: int
    late: int
    throttled: int
    failed: int
    cold: int


class LoadTotals(_Model):
    """A variant's load test as a whole."""

    variant: str
    protocol: str
    started_at: tuple[float, ...]  # when the first call of each repeat was due
    durations_s: tuple[float, ...]  # from there to its last call
    duration_s: float  # of all repeats
    offered: int
    sent: int
    answered: int
    ok: int
    dropped: int
    late: int
    offered_rps: float
    achieved_rps: float
    send_lag_p99_ms: Estimate

    @property
    def repeats(self) -> int:
        return len(self.started_at)

    def repeats_at(self, second: float) -> int:
        """Return how many repeats had not ended so long after their start."""
        return sum(duration_s > second for duration_s in self.durations_s)


class HighestRates(_Model):
    """The highest rate of Poisson arrivals at which few enough callers miss the limit, in requests per second."""

    variant: str
    limit_ms: float
    max_missed_share: float
    measured_rps: Estimate  # by the load test's search; n counts its calls
    simulated_rps: Estimate  # with the run's warm calls and cold starts, on demand
    concurrency: int  # that the simulation assumes


class SwappingCell(_Model):
    """One point of the grid that varies CPU share and memory separately (claim C11)."""

    model: str
    engine: str
    architecture: str
    memory_mb: int
    vcpu: float
    inference_ms: Estimate  # median
    major_page_faults: float | None  # mean a call
    killed: int = 0


class MetricCheck(_Model):
    """A CloudWatch statistic next to our own from the logs."""

    variant: str
    metric: str
    statistic: str
    cloudwatch: float | None
    own: float | None
    difference_percent: float | None
    agrees: bool | None
    reason: str = ""


class DataWarning(_Model):
    """Something that a reader of the figures has to know, with what to do about it."""

    code: str  # stable, for machines: incomplete_logs, host_contended, random_weights, ...
    severity: Literal["info", "warning", "serious"]
    message: str
    advice: str
    variants: tuple[str, ...] = ()
    count: int | None = None
    caps_verdicts: bool = False  # a breach of the data contract: every verdict is provisional at most


class Origin(EndpointFacts):
    """Where the run was measured. Lab and cloud are never in one summary."""

    endpoint_url: str | None = None
    badge: str  # "Measured on AWS Lambda, eu-central-1" or "Measured in the lab on HOST: not a cloud figure"


class PriceNote(_Model):
    """Which price list the costs rest on."""

    as_of: str
    region: str
    currency: str = "USD"
    source: str
    overrides: dict[str, float]
    values: dict[str, float]


class Summary(_Model):
    """Everything the report shows, less the rows themselves."""

    schema_version: Literal[2] = SUMMARY_SCHEMA_VERSION
    run_id: str
    title: str
    started_at: float
    finished_at: float | None
    stopped_because: str
    commit: str
    profile: str
    seed: int
    versions: dict[str, str]
    configuration: dict[str, Any]
    experiments: tuple[Experiment, ...]
    origin: Origin
    prices: PriceNote
    variants: dict[str, Variant]  # by key, in the order of the matrix
    invocations: int
    outcomes: dict[str, int]
    excluded: dict[str, int]
    cells: tuple[Cell, ...]
    breakdown: tuple[Cell, ...] = ()
    cold_ratios: tuple[ColdRatio, ...]
    coverage: tuple[Coverage, ...]
    differences: tuple[Difference, ...]
    costs: tuple[CostPerMillion, ...]
    failed_costs: tuple[FailedCost, ...] = ()
    monthly: tuple[MonthlyCost, ...]
    break_even: tuple[BreakEven, ...]
    traffic: dict[str, Any]
    recommendation: Recommendation
    what_if: WhatIf | None = None  # None: not asked for
    pareto: tuple[ParetoPoint, ...]
    knees: tuple[Knee, ...]
    claims: tuple[Claim, ...]
    table1: tuple[Table1Row, ...]
    touched_files: tuple[TouchedFiles, ...] = ()
    load_seconds: tuple[LoadSecond, ...]
    load_totals: tuple[LoadTotals, ...]
    highest_rates: tuple[HighestRates, ...] = ()  # empty without a search
    metric_checks: tuple[MetricCheck, ...]
    swapping: tuple[SwappingCell, ...] = ()  # empty without the swapping experiment
    stops: tuple[Stop, ...] = ()
    warnings: tuple[DataWarning, ...] = Field(default_factory=tuple)

    @property
    def images(self) -> tuple[Image, ...]:
        """What was measured at several memory sizes, in the order of the matrix."""
        return tuple(dict.fromkeys(variant.image for variant in self.variants.values()))

    def variants_of(self, image: Image) -> list[Variant]:
        """The memory sizes of one image."""
        return [variant for variant in self.variants.values() if variant.image == image]

    def name_of(self, key: str) -> str:
        """The name for people of a variant's key; the key itself where it names something else, such as the gateway."""
        return self.variants[key].display_name if key in self.variants else key

    def cell(self, variant: str, experiment: str, start_type: str) -> Cell | None:
        """The cell of these coordinates in `cells`, or None where nothing was measured."""
        where = (variant, experiment, start_type)
        return next((one for one in self.cells if (one.variant, one.experiment, one.start_type) == where), None)

    def cost(self, variant: str, start_type: str) -> CostPerMillion | None:
        return next((one for one in self.costs if (one.variant, one.start_type) == (variant, start_type)), None)
