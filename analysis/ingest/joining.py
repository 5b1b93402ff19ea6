"""One row per invocation: what the client saw, what the platform logged, what the handler said. No I/O.

Rules, in this order:

1. A client record and a logged invocation with the same request id are one.
2. A scheduled fire (outcome `pending`, no request id) takes the first invocation of its variant that began after it and
   before the next fire of that variant; one that is left takes the first that is left and began within a minute of it.
3. Any other call that was sent and has no request id (the gateway does not tell it when the function fails) takes, in
   the order of sending, the first invocation of its variant that began between sending and answer, give or take the
   clocks' tolerance.
4. What is left over in the logs is a row of its own without a client; what is left over of the client's stays as the
   client saw it, and a scheduled fire without an invocation becomes `missing`.

Outcome: the client's if it received an answer; the log explains `error` and decides `pending`.
Start type: by the strongest evidence there is, see `core.run.records.StartEvidence`. Cold is a start that the caller
waited for, by an init or by a restore from a snapshot; an environment that the platform initialized ahead of the call
is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import polars as pl

from analysis.ingest.platform_logs import FACT_COLUMNS
from analysis.ingest.run_files import ROW_SCHEMA
from core.run.records import NEVER_INVOKED, PROVISIONED, SCHEMA_VERSION, EndpointFacts, StartEvidence
from core.variants import Variant

# Clocks of client and platform are never subtracted; they only have to agree this well for rules 2 and 3.
CLOCK_TOLERANCE_S: Final = 2.0

# How late a fire may still begin: the queue of asynchronous calls gives no promise, so this is generous.
LATE_FIRE_S: Final = 60.0
ONLY_FIRE_S: Final = 900.0  # how long a fire without another before it may own what begins

# A killed process reports at most its memory limit; page accounting keeps it a little below at times.
OUT_OF_MEMORY_SHARE: Final = 0.97

# Nobody waited for an init that was over this long before START. Otherwise, milliseconds separate the two.
AHEAD_MS: Final = 1000.0


def join_calls(logged: pl.DataFrame, clients: pl.DataFrame, most_rows: int) -> Iterator[pl.DataFrame]:
    """Give client records and logged invocations of one variant side by side: one row per call, in the order of time.

    `logged` has LOGGED_COLUMNS, `clients` the columns of `read_clients`. What the rows come to, `decide` tells. They
    come so many at once, because all together they would take the memory of both sides again.
    """
    logged = _classify(logged)
    clients = clients.with_columns(pl.col("request_id").str.to_lowercase()).with_row_index("client_index")
    clients = _match(clients, logged)
    pairs = clients.select("request_id", pl.int_range(pl.len()).alias("client")).join(
        logged.select("request_id", pl.int_range(pl.len()).alias("logged")), on="request_id", how="full", coalesce=True
    )
    times = pl.coalesce(clients["intended_at"].gather(pairs["client"]), logged["logged_at"].gather(pairs["logged"]))
    pairs = pairs.drop("request_id")[pl.select(times.arg_sort(nulls_last=True)).to_series()]
    both = set(clients.columns) & set(logged.columns)
    logged = logged.rename({name: f"{name}_logged" for name in both})
    for some in pairs.iter_slices(most_rows):
        rows = pl.concat(
            [clients.select(pl.all().gather(some["client"])), logged.select(pl.all().gather(some["logged"]))],
            how="horizontal",
        )
        yield rows.with_columns(pl.coalesce("request_id", "request_id_logged").alias("request_id"))


def _classify(logged: pl.DataFrame) -> pl.DataFrame:
    """Outcome by the logs, from the strongest sign to the weakest."""
    text = pl.concat_str(pl.col("error_type", "failure"), separator=" ", ignore_nulls=True)
    full = pl.col("max_memory_used_mb") >= OUT_OF_MEMORY_SHARE * pl.col("memory_size_mb")
    killed = text.str.contains("signal: killed") | (text.str.contains("Runtime.ExitError") & full)
    timed_out = (pl.col("status") == "timeout") | text.str.contains("Task timed out")
    outcome = (
        pl.when((pl.col("error_type") == "Runtime.OutOfMemory") | killed)
        .then(pl.lit("out_of_memory"))
        .when(timed_out & (pl.col("init_status") == "timeout"))
        .then(pl.lit("init_timeout"))
        .when(timed_out)
        .then(pl.lit("timeout"))
        .when((pl.col("status").is_not_null() & (pl.col("status") != "success")) | (text != ""))
        .then(pl.lit("error"))
        .when(pl.col("duration_ms").is_not_null() | pl.col("handler_ms").is_not_null())
        .then(pl.lit("ok"))
        .otherwise(None)  # started and not finished within the window
    )
    return logged.with_columns(
        outcome.alias("outcome_logged"),
        pl.when(text == "").then(None).otherwise(text).alias("error_logged"),
        pl.lit(value=True).alias("in_logs"),
        _EARLY.alias("early"),
        pl.when("provisioned").then(pl.lit(PROVISIONED)).otherwise(pl.col("initialization")).alias("initialization"),
    )


def _match(clients: pl.DataFrame, logged: pl.DataFrame) -> pl.DataFrame:
    """Give client records without a request id the id of the invocation that rules 2 and 3 find."""
    waited = ~_is_early(pl.col("init_to_call_ms"))
    start_ms = pl.coalesce("init_ms", "failed_init_ms", "restore_ms")
    free = (
        logged.filter(pl.col("logged_at").is_not_null())
        .join(clients.filter(pl.col("request_id").is_not_null()), on="request_id", how="anti", maintain_order="left")
        # START is written after INIT or the restore: the call began that much earlier, unless it did not wait for it.
        .select("request_id", pl.col("logged_at") - pl.when(waited).then(start_ms).fill_null(0.0) / 1000)
        .sort("logged_at")
    )
    if free.height == 0:
        return clients
    open_calls = clients.filter(pl.col("request_id").is_null())
    fires = open_calls.filter(pl.col("outcome") == "pending").sort("intended_at")
    others = open_calls.filter(
        pl.col("sent_at").is_not_null() & ~pl.col("outcome").is_in(["pending", *NEVER_INVOKED])
    ).sort("sent_at")
    found = _match_fires(fires["client_index"].to_list(), fires["intended_at"].to_list(), free)
    taken = set(found.values())
    left = free.filter(~pl.col("request_id").is_in(list(taken)))
    found |= _match_in_order(others, left)
    if not found:
        return clients
    matches = pl.DataFrame(
        {"client_index": list(found), "matched_id": list(found.values())},
        schema={"client_index": clients.schema["client_index"], "matched_id": pl.String},
    )
    return clients.join(matches, on="client_index", how="left", maintain_order="left").with_columns(
        pl.coalesce("request_id", "matched_id").alias("request_id")
    )


def _match_fires(indices: list[int], times: list[float], free: pl.DataFrame) -> dict[int, str]:
    """Fires and the invocations they began: within each interval first, then what is left in the order of time."""
    found: dict[int, str] = {}
    ids, starts = free["request_id"].to_list(), free["logged_at"].to_list()
    place = 0
    taken: set[int] = set()
    last_s = times[-1] - times[-2] if len(times) > 1 else ONLY_FIRE_S
    for number, (index, fired_at) in enumerate(zip(indices, times, strict=True)):
        following = times[number + 1] if number + 1 < len(times) else fired_at + last_s
        # In a lab that shortens its schedules the interval may be shorter than the tolerance.
        tolerance_s = min(CLOCK_TOLERANCE_S, (following - fired_at) / 10)
        while place < len(starts) and starts[place] < fired_at - tolerance_s:
            place += 1
        if place < len(starts) and starts[place] < following - tolerance_s:
            found[index] = ids[place]
            taken.add(place)
            place += 1
    left = [number for number in range(len(starts)) if number not in taken]
    for index, fired_at in zip(indices, times, strict=True):
        if index in found:
            continue
        late = next((n for n in left if fired_at <= starts[n] <= fired_at + LATE_FIRE_S), None)
        if late is not None:
            found[index] = ids[late]
            left.remove(late)
    return found


def _match_in_order(calls: pl.DataFrame, free: pl.DataFrame) -> dict[int, str]:
    found: dict[int, str] = {}
    ids, starts = free["request_id"].to_list(), free["logged_at"].to_list()
    place = 0
    for index, sent_at, answered_at in calls.select("client_index", "sent_at", "answered_at").iter_rows():
        while place < len(starts) and starts[place] < sent_at - CLOCK_TOLERANCE_S:
            place += 1
        if place == len(starts):
            break
        if answered_at is None or starts[place] <= answered_at + CLOCK_TOLERANCE_S:
            found[index] = ids[place]
            place += 1
    return found


# Whether an environment was initialized before it was asked for, as the platform logs it or the function was told: by
# the times of init and START, or by the name for the init. The function's own holds for the first call that a log
# stream shows: an environment that crashed keeps its type, and its next caller waits for another init.
_EARLY: Final = pl.any_horizontal(
    (pl.col("since_init_start_ms") - pl.col("init_ms") > AHEAD_MS).fill_null(value=False),
    pl.col("provisioned").fill_null(value=False),
    ((pl.col("initialization") == PROVISIONED) & (pl.col("call_number") == 1) & pl.col("first_in_stream")).fill_null(
        value=False
    ),
)


def _is_early(init_to_call_ms: pl.Expr) -> pl.Expr:
    """Whether it was early, by the function's own time too where the platform logs none, as at log level INFO."""
    by_function = pl.col("since_init_start_ms").is_null() & (init_to_call_ms > AHEAD_MS)
    return pl.col("early").fill_null(value=False) | by_function.fill_null(value=False)


def _initialised_ahead() -> pl.Expr:
    """Whether the platform had initialized the environment before it was asked for, as Lambda may do.

    Told by the logs, by the function's answer, or by a caller who had it in less time than the init alone took. Who
    gave up waiting was not quicker: a 504 comes before the end of a long init. The function's own time between init and
    call begins with the end of its import, or of a restore, and a slow CPU takes a while from there: who waited for
    that time, for the whole start, and for the call waited for the start.
    """
    latency_ms = pl.col("client_latency_ms")
    answered = ~pl.col("outcome").cast(pl.String).is_in(["gateway_timeout", "connection"])
    quick = answered & (latency_ms < pl.col("init_ms"))
    own_ms = pl.coalesce("init_to_call_ms_logged", "init_to_call_ms")
    start_ms = pl.max_horizontal("init_ms", "restore_ms", own_ms)
    waited = (latency_ms >= start_ms + pl.col("duration_ms")).fill_null(value=False)
    fine = pl.col("init_status").fill_null("success") == "success"
    return fine & (_is_early(pl.when(~waited).then(own_ms)) | quick.fill_null(value=False))


def _first_that_holds(cases: Sequence[tuple[pl.Expr, pl.Expr]], otherwise: pl.Expr) -> pl.Expr:
    """The value of the first case whose condition is true; null is not true."""
    for holds, value in reversed(cases):
        otherwise = pl.when(holds).then(value).otherwise(otherwise)
    return otherwise


def _starts() -> list[tuple[StartEvidence, pl.Expr, pl.Expr]]:
    """Evidence of the start type, strongest first: its name, whether a row has it, whether it says cold."""
    call_number = pl.coalesce("call_number_logged", "call_number")
    in_logs = pl.col("in_logs").fill_null(value=False)
    cold = pl.lit(value=True)
    return [
        ("initialised_ahead", _initialised_ahead(), pl.lit(value=False)),
        ("restore_duration", in_logs & pl.col("restore_ms").is_not_null(), cold),
        ("call_number", call_number.is_not_null(), call_number == 1),
        ("init_duration", in_logs & pl.col("init_ms").is_not_null(), cold),
        ("init_report", in_logs & pl.col("init_status").is_in(["timeout", "error"]), cold),
        ("first_in_stream", in_logs & pl.col("first_in_stream").is_not_null(), pl.col("first_in_stream")),
    ]


def _start_evidence() -> pl.Expr:
    return _first_that_holds([(holds, pl.lit(name)) for name, holds, _ in _starts()], pl.lit("none"))


def _start_type() -> pl.Expr:
    cold = _first_that_holds([(holds, is_cold) for _, holds, is_cold in _starts()], pl.lit(None, pl.Boolean))
    return _first_that_holds([(cold, pl.lit("cold")), (~cold, pl.lit("warm"))], pl.lit("unknown"))


def _outcome() -> pl.Expr:
    """The client's outcome if it received an answer; the log explains `error` and decides `pending`."""
    by_client, by_log = pl.col("outcome"), pl.col("outcome_logged")
    explained = (by_client == "error") & by_log.is_not_null() & (by_log != "ok")
    unanswered = by_client.is_null() | (by_client == "pending")
    return _first_that_holds([(unanswered, by_log.fill_null("missing")), (explained, by_log)], by_client)


def _error() -> pl.Expr:
    said = pl.col("error").fill_null("")
    return pl.when(said == "").then(pl.col("error_logged").fill_null("")).otherwise(said)


def _init_status() -> pl.Expr:
    status = pl.col("init_status")
    cases = [
        (_initialised_ahead(), pl.lit("ahead")),
        (status.is_not_null(), status),
        (pl.col("init_ms").is_not_null(), pl.lit("success")),
    ]
    return _first_that_holds(cases, pl.lit(None, pl.String))


def decide(
    joined: pl.DataFrame, variant: Variant, endpoint: EndpointFacts, run_id: str, *, logs_alone: bool = False
) -> pl.DataFrame:
    """Rows of `join_calls` with the columns of `INVOCATION_COLUMNS`; each row follows from itself alone.

    `logs_alone`: the run has no client records at all, so experiments are told from the logs: cold starts count as
    cold, the others as warm.
    """
    start_type = _start_type()
    rows = joined.with_columns(
        (start_type.replace("unknown", None) if logs_alone else pl.col("experiment")).alias("experiment"),
        (pl.lit("logs") if logs_alone else pl.col("protocol")).alias("protocol"),
        *(pl.coalesce(f"{name}_logged", name).alias(name) for name in FACT_COLUMNS),
        _start_evidence().alias("start_evidence"),
        start_type.alias("start_type"),
        _outcome().alias("outcome"),
        _error().alias("error"),
        # A failed init is named by its own line; its time is what the caller waited for before the second one.
        pl.coalesce("init_ms", "failed_init_ms").alias("init_ms"),
        _init_status().alias("init_status"),
        pl.col("warmup").fill_null(value=False),
        pl.col("first_after_deploy").fill_null(value=False),
        pl.col("group").fill_null(""),
        pl.col("connection").fill_null("none"),
        pl.coalesce("time_scale_logged", "time_scale").fill_null(endpoint.time_scale).alias("time_scale"),
        pl.col("limits").fill_null(endpoint.limits.mechanism),
    )
    constants: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "source": endpoint.source,
        "region": endpoint.region,
        "host": endpoint.host,
        "variant": variant.key,
        "model": variant.model,
        "engine": variant.engine,
        "architecture": variant.architecture,
        "memory_mb": variant.memory_mb,
    }
    rows = rows.with_columns(pl.lit(value).alias(name) for name, value in constants.items())
    return rows.select(pl.col(name).cast(kind) for name, kind in ROW_SCHEMA.items())
