"""To and from aws-lambda-power-tuning. No I/O.

The tool: https://github.com/alexcasalboni/aws-lambda-power-tuning, README. Its averages leave out the fastest and
the slowest fifth of the calls and the request fee, so its figures are shown next to ours and never mixed with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.report.text import markdown_table
from analysis.summary import Estimate, Summary
from core import strict_json
from core.errors import RecordError
from core.variants import Image

Amount = Annotated[float, Field(ge=0)]

SMALLEST_NUM: Final = 5  # the state machine takes no fewer invocations


class PowerStat(BaseModel):
    """Averages at one memory size, as `stats` of the result holds them where `includeOutputResults` was set."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    value: int = Field(gt=0)  # MB
    average_duration_ms: Amount = Field(alias="averageDuration")
    average_price_usd: Amount = Field(alias="averagePrice")


class PowerTuning(BaseModel):
    """The state machine's answer."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    power: int = Field(gt=0)  # MB
    cost: Amount  # USD
    duration: Amount  # ms
    stats: tuple[PowerStat, ...] = ()


@dataclass(frozen=True)
class PowerComparison:
    """A memory size in both tools."""

    memory_mb: int
    their_duration_ms: float | None
    their_usd: float | None
    our_duration: Estimate | None
    our_compute_usd: float | None


_WRAPPERS: Final = ("results", "output", "detail")  # the state machine's own, DescribeExecution's, an event's
_SCRIPTS_HEADING: Final = "Execution output:"
_RESULT_HINT: Final = (
    'Give the output of its state machine, {"results": {"power": ..., "cost": ..., "duration": ...}}, or what '
    "`aws stepfunctions describe-execution` prints."
)
_EXECUTION_HINT: Final = "Look for its failed state in Step Functions, or wait for its end, and save its output again."
# Other documents of the same execution, by a key of theirs.
_OTHER_DOCUMENTS: Final = {
    "powerValues": "the state machine's input",
    "lambdaARN": "the state machine's input",
    "events": "the execution's history",
    "executionArn": "the answer to StartExecution, which does not wait for the output",
}


def read_power_tuning(text: str) -> PowerTuning:
    """Parse the state machine's output in every form in which it is saved. Raises RecordError.

    These are: bare or below `results`; below `output`, as an object or as text, in the answer of DescribeExecution or
    in an event's `detail`; and after the line "Execution output:" that the project's script prints.
    """
    try:
        results = _unwrapped(text)
    except ValueError as error:
        raise RecordError(f"the power tuning result is no JSON: {error}", hint=_RESULT_HINT) from None
    _check_execution(results)
    try:
        return PowerTuning.model_validate(results)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"]) or "results"
        raise RecordError(
            f"the power tuning result has no usable `{where}`: {detail['msg']}", hint=_RESULT_HINT
        ) from None


def _unwrapped(text: str) -> Any:
    """Return the innermost document, or None if the text represents none. Raises ValueError."""
    document: Any = text.removeprefix("\ufeff")
    if _SCRIPTS_HEADING in document:
        document = document.partition(_SCRIPTS_HEADING)[2]
    while True:
        while isinstance(document, str):
            if document.strip() in {"", "None"}:  # None is how the AWS CLI prints null as text
                return None
            document = strict_json.loads(document)
        wrapper = next((name for name in _WRAPPERS if isinstance(document, dict) and name in document), None)
        if wrapper is None or (not document[wrapper] and "status" in document):
            return document
        document = document[wrapper]


def _check_execution(document: Any) -> None:
    """Refuse what an execution without a result leaves, and its other documents. Raises RecordError."""
    if document is not None and (not isinstance(document, dict) or "power" in document):
        return
    document = document or {}
    status, error, hint = document.get("status"), _error(document), _EXECUTION_HINT
    if not document:
        what = "is empty: its execution failed, is not over, or was a dry run"
    elif status == "SUCCEEDED":
        what, hint = "is left out of this answer of DescribeExecution", "Save it again with --included-data ALL_DATA."
    elif isinstance(status, str):
        what = f"is of an execution that is {status}" + (f": {error}" if error else "")
    elif error:
        what = f"is the error of a failed execution: {error}"
    else:
        other = next((kind for key, kind in _OTHER_DOCUMENTS.items() if key in document), "")
        if not other:
            return
        what, hint = f"is {other}", _RESULT_HINT
    raise RecordError(f"the power tuning result {what}", hint=hint)


def _error(document: Mapping[str, Any]) -> str:
    """Return the error of Step Functions or of a state's function, or ""."""
    nested = document.get("error")
    if isinstance(nested, dict):
        return _error(nested)
    said = (document.get(name) for name in ("error", "Error", "errorType", "cause", "Cause", "errorMessage"))
    return " ".join(value if isinstance(value, str) else strict_json.dumps(value) for value in said if value)[:500]


def power_tuning_input(
    function_arn: str, memory_sizes_mb: Sequence[int], *, samples: int, payload: Any = None
) -> dict[str, Any]:
    """The state machine's input for the same question; asks it to trim nothing and to give all averages."""
    return {
        "lambdaARN": function_arn,
        "powerValues": sorted(memory_sizes_mb),
        "num": max(SMALLEST_NUM, samples),
        "payload": {} if payload is None else payload,
        "parallelInvocation": False,
        "strategy": "cost",
        "discardTopBottom": 0,
        "includeOutputResults": True,
    }


def beside_power_tuning(summary: Summary, image: Image, theirs: PowerTuning) -> list[PowerComparison]:
    """Their averages next to our warm median and compute cost, for every memory size that either has."""
    stats = {stat.value: stat for stat in theirs.stats}
    if theirs.power not in stats:
        stats[theirs.power] = PowerStat(value=theirs.power, averageDuration=theirs.duration, averagePrice=theirs.cost)
    warm = [cell for cell in summary.cells if (cell.experiment, cell.start_type) == ("warm", "warm")]
    ours = {cell.memory_mb: cell for cell in warm if summary.variants[cell.variant].image == image}
    found = []
    for memory_mb in sorted(set(stats) | set(ours)):
        stat, cell = stats.get(memory_mb), ours.get(memory_mb)
        cost = summary.cost(cell.variant, "warm") if cell else None
        found.append(
            PowerComparison(
                memory_mb=memory_mb,
                their_duration_ms=stat.average_duration_ms if stat else None,
                their_usd=stat.average_price_usd if stat else None,
                our_duration=cell.metrics["duration_ms"].p50 if cell and "duration_ms" in cell.metrics else None,
                our_compute_usd=cost.parts["compute"] / 1e6 if cost and "compute" in cost.parts else None,
            )
        )
    return found


def power_tuning_markdown(comparisons: Sequence[PowerComparison]) -> str:
    """Both tools side by side as Markdown."""
    lines = []
    for c in comparisons:
        ours = c.our_duration.value if c.our_duration else None
        lines.append(
            (
                str(c.memory_mb),
                _text(c.their_duration_ms, ".1f"),
                _text(ours, ".1f"),
                _text(None if c.their_usd is None else c.their_usd * 1e6, ".3f"),
                _text(None if c.our_compute_usd is None else c.our_compute_usd * 1e6, ".3f"),
            )
        )
    head = (
        "Memory MB",
        "Average ms (power tuning)",
        "Median ms (here)",
        "USD per million (power tuning)",
        "USD per million, compute (here)",
    )
    return markdown_table(head, lines, right=(0, 1, 2, 3, 4)) + (
        "\n\nPower tuning averages what is left after trimming (a fifth at either end by default) and leaves the "
        "request "
        "fee out; medians and means here trim nothing."
    )


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
