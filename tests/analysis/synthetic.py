"""A complete run made by a generator: rows as the truth, and the client records and raw logs that tell of them.

`make_rows` draws the invocations of a believable lab run, `write_run` writes the files a real run leaves behind, so
that the pipeline can be tested for giving the rows back. As a program it writes one:

    python -m tests.analysis.synthetic results            # a new run below results/
"""

from __future__ import annotations

import gzip
import json
import sys
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.estimate.run_summary import Extras, make_summary
from analysis.summary import Summary
from core.configuration import Configuration, read_configuration
from core.money.prices import read_prices
from core.run.records import INVOCATION_COLUMNS, ClientRecord, EndpointFacts, LimitsInForce, Manifest
from core.run.run_directory import RunDirectory
from core.variants import Start, Variant

STARTED_AT = 1_795_000_000.0
NOT_MODELLED = ("image fetch", "placement", "network", "proactive init")

# One vCPU, milliseconds and megabytes, as measured with TensorFlow SavedModels.
INFERENCE_MS = {"mobilenet": 9.5, "resnet50": 44.0, "inceptionv3": 58.0}
LOAD_MS = {"mobilenet": 600.0, "resnet50": 1200.0, "inceptionv3": 1600.0}
ENGINE_SPEED = {"tensorflow": 1.0, "onnxruntime": 1.4, "litert": 0.9, "openvino": 1.6}
ENGINE_START = {"tensorflow": 1.0, "onnxruntime": 0.2, "litert": 0.15, "openvino": 0.3}
MEMORY_MB = {"mobilenet": 430.0, "resnet50": 660.0, "inceptionv3": 690.0}
CLIENT_COLUMNS = [
    name
    for name in ClientRecord.model_fields
    if name in INVOCATION_COLUMNS and name not in {"schema_version", "request_id"}
]
BILLED_RESTORE_MS = 12
# Evidence by start mode, whether the call is cold, and whether its environment was initialized ahead.
EVIDENCE = {("snapstart", True, False): "restore_duration", ("provisioned", False, True): "initialised_ahead"}
SCHEMA = {name: getattr(pl, kind) for name, kind in INVOCATION_COLUMNS.items()}


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows as the data frame of `INVOCATION_COLUMNS`."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row", strict=False)


class Generator:
    """Draws rows variant by variant; the same seed gives the same run."""

    def __init__(self, configuration: Configuration, *, run_id: str, seed: int = 1, source: str = "lab") -> None:
        self.configuration = configuration
        self.run_id = run_id
        self.random = np.random.default_rng(seed)
        self.source = source
        self.rows: list[dict[str, Any]] = []
        self._environments: dict[str, tuple[str, str, int]] = {}
        self._spilled: dict[str, bool] = {}  # by log stream: whether its environment started on demand

    def _uuid(self) -> str:
        return str(uuid.UUID(bytes=self.random.bytes(16), version=4))

    def _next_environment(self, key: str, *, fresh: bool) -> tuple[str, str, int]:
        """Id, log stream, and call number of who answers next."""
        if fresh:
            stream = f"2026/11/24/[$LATEST]{self.random.bytes(16).hex()}"
            return self.random.bytes(8).hex(), stream, 1
        name, stream, number = self._environments[key]
        return name, stream, number + 1

    def _initialization(self, variant: Variant, stream: str, *, cold: bool) -> str:
        """How an environment began: by a provisioned one's first call, which is no cold start, or on demand."""
        if variant.start != "provisioned":
            return "snap-start" if variant.start == "snapstart" else "on-demand"
        spilled = self._spilled.setdefault(stream, cold)
        return "on-demand" if spilled else "provisioned-concurrency"

    def row(
        self,
        variant: Variant,
        *,
        experiment: str,
        protocol: str,
        trigger: str,
        at: float,
        cold: bool,
        connection: str = "none",
        lag_ms: float = 0.0,
        queue_ms: float = 0.0,
        contended: bool = False,
        outcome: str = "ok",
        **more: Any,
    ) -> dict[str, Any]:
        rng, key = self.random, variant.key
        vcpu, number = min(variant.vcpu_share, 1.7), len(self.rows)
        if outcome == "ok" and variant.memory_mb < MEMORY_MB[variant.model] * 0.85:
            outcome = "out_of_memory"
        facts: dict[str, Any] = dict.fromkeys(INVOCATION_COLUMNS)
        logged = outcome not in {"throttled", "dropped"}
        if logged:
            # The first call in a provisioned environment waits for no init; a cold one found all of them busy.
            ahead = variant.start == "provisioned" and key not in self._environments and not cold
            cold = not ahead and (cold or key not in self._environments or outcome == "out_of_memory")
            environment = self._environments[key] = self._next_environment(key, fresh=cold or ahead)
            if outcome == "out_of_memory":
                self._environments.pop(key)
            slow, heavy = (
                1.35 if contended else 1.0,
                1.0 + (rng.pareto(2.5) * 0.4 if rng.random() < 0.03 else 0.0),
            )
            speed, start = ENGINE_SPEED[variant.engine], ENGINE_START[variant.engine]
            inference = INFERENCE_MS[variant.model] / speed / vcpu * slow * heavy * float(rng.lognormal(0, 0.06))
            decode = 4.0 / vcpu * float(rng.lognormal(0, 0.1))
            first = import_ms = load_ms = init_ms = restore_ms = None
            if cold and variant.start == "snapstart":
                restore_ms, inference = round(590.0 * float(rng.lognormal(0, 0.1)), 2), 1.2 * inference
            elif cold:
                import_ms = 1800.0 * start * slow * float(rng.lognormal(0, 0.05))
                load_ms = LOAD_MS[variant.model] * start * slow * float(rng.lognormal(0, 0.08))
                init_ms = import_ms + load_ms + 180 * float(rng.lognormal(0, 0.1))
                inference *= 8.0
                first = inference
            handler = inference + decode + 0.4
            duration = handler + 1.2 * float(rng.lognormal(0, 0.2))
            if outcome == "timeout":
                duration = self.configuration.function.timeout_s * 1000.0
            facts |= {
                "request_id": self._uuid(),
                "log_stream": environment[1],
                "logged_at": at + (lag_ms + queue_ms) / 1000 + (init_ms or restore_ms or 0) / 1000 + 0.001,
                "duration_ms": round(duration, 2),
                "init_ms": None if init_ms is None else round(init_ms, 2),
                "init_status": "ahead" if ahead else None if init_ms is None else "success",
                "restore_ms": restore_ms,
                "billed_ms": float(np.ceil(duration + (init_ms or 0)) + (BILLED_RESTORE_MS if restore_ms else 0)),
                "max_memory_used_mb": float(
                    variant.memory_mb
                    if outcome == "out_of_memory"
                    else min(variant.memory_mb, round(MEMORY_MB[variant.model] + 20 * rng.random()))
                ),
                "start_type": "cold" if cold else "warm",
                "start_evidence": "restore_duration" if restore_ms else "init_duration" if cold else "none",
                "major_page_faults": int(rng.poisson(0.2)) if self.source == "lab" else None,
                "host_contended": contended if self.source == "lab" else None,
            }
            if outcome == "ok":
                facts |= {
                    "weights": "random",
                    "environment_id": environment[0],
                    "call_number": environment[2],
                    "initialization": self._initialization(variant, environment[1], cold=cold),
                    "start_evidence": EVIDENCE.get((variant.start, cold, ahead), "call_number"),
                    "handler_ms": round(handler, 3),
                    "inference_ms": round(inference, 3),
                    "decode_ms": round(decode, 3),
                    "import_ms": import_ms and round(import_ms, 3),
                    "load_ms": load_ms and round(load_ms, 3),
                    "first_inference_ms": first and round(first, 3),
                }
            elif not cold:
                facts["start_evidence"] = "first_in_stream"
        else:
            facts |= {"start_type": "unknown", "start_evidence": "none"}
        sent = None if outcome == "dropped" or trigger == "schedule" else at + lag_ms / 1000
        latency = None
        if sent is not None:
            waited = (facts["duration_ms"] or 0) + (facts["init_ms"] or facts["restore_ms"] or 0)
            latency = waited + queue_ms + 3.0 + float(rng.gamma(2, 0.8)) if logged else 2.0 + float(rng.gamma(2, 0.5))
        status = {"ok": 200, "throttled": 429, "out_of_memory": 502, "timeout": 502, "error": 502}.get(outcome)
        facts |= {
            "schema_version": 1,
            "run_id": self.run_id,
            "call_id": f"{experiment}-{number:07d}",
            "experiment": experiment,
            "protocol": protocol,
            "trigger": trigger,
            "source": self.source,
            "region": "eu-central-1",
            "host": "lab-host" if self.source == "lab" else "",
            "variant": key,
            "model": variant.model,
            "engine": variant.engine,
            "architecture": variant.architecture,
            "memory_mb": variant.memory_mb,
            "warmup": False,
            "first_after_deploy": False,
            "group": "",
            "connection": connection,
            "gateway_request_id": self._uuid() if trigger == "api" and outcome != "dropped" else None,
            "outcome": outcome,
            "error": {
                "ok": "",
                "out_of_memory": "Runtime.ExitError",
                "throttled": "Too Many Requests",
                "timeout": "timeout",
            }.get(outcome, ""),
            "http_status": status if trigger == "api" else None,
            "intended_at": at,
            "sent_at": sent,
            "answered_at": None if sent is None or latency is None else sent + latency / 1000,
            "connect_ms": 1.5 + float(rng.gamma(2, 0.3)) if connection == "new" else None,
            "client_latency_ms": latency,
            "latency_from_intended_ms": None if latency is None else latency + lag_ms,
            "limits": "cgroup-v1" if self.source == "lab" else "aws",
            "time_scale": 1.0,
        }
        facts |= more
        self.rows.append(facts)
        return facts

    def cold(self, variant: Variant, start: float, samples: int, *, forced: int = 3) -> None:
        interval = self.configuration.experiments.cold.interval_minutes * 60.0
        for number in range(samples):
            # One fire in eight finds an environment that still lives: the ratio of cold starts is not 1.
            self.row(
                variant,
                experiment="cold",
                protocol="scheduled",
                trigger="schedule",
                at=start + number * interval,
                cold=variant.start != "provisioned" and (number == 0 or self.random.random() > 0.125),
                contended=self.random.random() < 0.1 and self.source == "lab",
                first_after_deploy=number == 0,
            )
        for number in range(forced):
            # Each forced update of provisioned concurrency has a call before the alias moves, and one after.
            kinds = (("spillover", True), ("forced", False)) if variant.start == "provisioned" else (("forced", True),)
            for place, (protocol, cold) in enumerate(kinds):
                self._environments.pop(variant.key, None)
                self.row(
                    variant,
                    experiment="cold",
                    protocol=protocol,
                    trigger="invoke",
                    at=start + samples * interval + number * 30 + place * 15,
                    cold=cold,
                )

    def warm(self, variant: Variant, start: float, samples: int) -> None:
        """Samples spread over the configured environments, each a little faster or slower than the others."""
        at, environments = start, self.configuration.experiments.warm.environments
        for environment in range(environments):
            self._environments.pop(variant.key, None)
            share = samples * (environment + 1) // environments - samples * environment // environments
            for connection in ("kept", "new"):
                for number in range(-self.configuration.experiments.warm.warmups, share):
                    row = self.row(
                        variant,
                        experiment="warm",
                        protocol="sequential",
                        trigger="api",
                        at=at,
                        cold=False,
                        connection=connection,
                        warmup=number < 0,
                    )
                    at += (row["client_latency_ms"] or 0) / 1000 + 0.01

    def load(self, variant: Variant, start: float, *, end_rps: float, duration_s: float) -> None:
        arrivals = int(end_rps * duration_s / 2)
        for number in range(arrivals):
            # The inverse of the integral of a rate that rises linearly from 0.
            at = start + duration_s * float(np.sqrt((number + 0.5) / arrivals))
            busy = (at - start) / duration_s
            draw = self.random.random()
            outcome = "throttled" if draw < 0.02 * busy else "dropped" if draw > 1 - 0.005 * busy else "ok"
            self.row(
                variant,
                experiment="load",
                protocol="linear",
                trigger="api",
                at=at,
                cold=outcome == "ok" and self.random.random() < 0.03,
                connection="kept",
                lag_ms=float(self.random.gamma(1, 1.5)) if self.random.random() > 0.01 else 15.0,
                queue_ms=float(self.random.gamma(1, 6 * busy)),
                contended=busy > 0.6 and self.source == "lab",
                outcome=outcome,
            )


def smaller(configuration: Configuration, **matrix_changes: tuple[str, ...] | tuple[int, ...]) -> Configuration:
    """The same with fewer models or memory sizes: a summary of the whole matrix takes seconds."""
    matrix = configuration.matrix.model_copy(update=matrix_changes)
    return configuration.model_copy(update={"matrix": matrix})


def with_starts(configuration: Configuration, starts: tuple[Start, ...]) -> Configuration:
    """The same with these start modes."""
    matrix = configuration.matrix.model_copy(update={"starts": starts})
    return configuration.model_copy(update={"matrix": matrix})


def make_rows(
    configuration: Configuration,
    *,
    run_id: str = "20261124T101500Z-0001",
    seed: int = 1,
    source: str = "lab",
    cold_samples: int = 12,
    warm_samples: int = 40,
    load_rps: float = 10.0,
    load_s: float = 20.0,
    started_at: float = STARTED_AT,
) -> list[dict[str, Any]]:
    """The invocations of a run over every variant of the configuration."""
    generator = Generator(configuration, run_id=run_id, seed=seed, source=source)
    variants = configuration.variants
    interval = configuration.experiments.cold.interval_minutes * 60.0
    for place, variant in enumerate(variants):
        generator.cold(variant, started_at + place * interval / len(variants), cold_samples)
    at = started_at + (cold_samples + 1) * interval
    for variant in variants:
        generator.warm(variant, at, warm_samples)
        at += 60
    for variant in variants:
        generator.load(variant, at, end_rps=load_rps, duration_s=load_s)
        at += load_s + 5
    return generator.rows


def manifest_of(configuration: Configuration, rows: Sequence[dict[str, Any]], *, profile: str = "") -> Manifest:
    source = rows[0]["source"]
    return Manifest(
        run_id=rows[0]["run_id"],
        started_at=min(row["intended_at"] for row in rows) - 5,
        finished_at=max(row["intended_at"] for row in rows) + 60,
        stopped_because="the plan was done",
        endpoint=EndpointFacts(
            source=source,
            endpoint_url="http://localhost:4566" if source == "lab" else None,
            account_id="123456789012",
            region="eu-central-1",
            host=rows[0]["host"],
            host_cpus=2.0 if source == "lab" else None,
            limits=LimitsInForce(driver="process", cpu="cgroup-v1", memory="cgroup-v1", freezer="cgroup-v1")
            if source == "lab"
            else LimitsInForce(driver="aws", cpu="aws", memory="aws", freezer="aws"),
            idle_s=420.0 if source == "lab" else None,
            not_modelled=NOT_MODELLED if source == "lab" else (),
        ),
        configuration=configuration.model_dump(mode="json"),
        profile=profile,
        experiments=("cold", "warm", "load"),
        seed=configuration.experiments.seed,
        versions={"python": "3.11", "tensorflow": "2.21.0"},
        commit="0123456789abcdef",
        prices_date="2026-11-01",
    )


def handler_facts(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": "inference",
        "schema_version": 1,
        "model": row["model"],
        "engine": row["engine"],
        "architecture": row["architecture"],
        "weights": row["weights"],
        "memory_mb": row["memory_mb"],
        "request_id": row["request_id"],
        "environment_id": row["environment_id"],
        "call_number": row["call_number"],
        "initialization": row["initialization"],
        "cold": row["call_number"] == 1,
        "init_to_call_ms": row["init_to_call_ms"],
        "image": "tabby.jpg",
        "inference_ms": row["inference_ms"],
        "decode_ms": row["decode_ms"],
        "handler_ms": row["handler_ms"],
        "phases": {key: row[key] for key in ("import_ms", "load_ms", "first_inference_ms")},
    }


def client_record(row: dict[str, Any]) -> dict[str, Any]:
    """What the sender of this call wrote down."""
    record = {"schema_version": 1} | {name: row[name] for name in CLIENT_COLUMNS}
    ok = row["outcome"] == "ok" and row["trigger"] != "schedule"
    facts = handler_facts(row) if ok else None
    if facts:
        facts.pop("event")
    record |= {
        # The gateway does not tell Lambda's request id when the function failed.
        "request_id": row["request_id"] if ok or row["trigger"] == "invoke" else None,
        "handler": facts,
    }
    if row["trigger"] == "schedule":
        record |= {"outcome": "pending", "error": ""}
    if row["outcome"] == "out_of_memory" and row["trigger"] == "api":
        record |= {"outcome": "error", "error": "502 Internal server error"}
    return record


def iso(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{np.datetime64(whole, 's')}.{milliseconds:03d}Z"


def log_lines(row: dict[str, Any], *, log_format: str = "JSON") -> list[tuple[float, str]]:
    """The log events of one invocation, with their times in seconds."""
    if row["request_id"] is None:
        return []
    at, request_id = row["logged_at"], row["request_id"]
    end = at + row["duration_ms"] / 1000
    lines: list[tuple[float, str]] = []
    status = {"ok": "success", "timeout": "timeout"}.get(row["outcome"], "error")
    error_type = {"out_of_memory": "Runtime.ExitError"}.get(row["outcome"])
    if log_format == "JSON":
        start = {"requestId": request_id, "version": "$LATEST"}
        lines.append((at, json.dumps({"time": iso(at), "type": "platform.start", "record": start})))
    else:
        lines.append((at, f"START RequestId: {request_id} Version: $LATEST\n"))
    if row["outcome"] == "ok":
        lines.append((end, json.dumps(handler_facts(row))))
    if log_format == "JSON":
        metrics = {
            "durationMs": row["duration_ms"],
            "billedDurationMs": int(row["billed_ms"]),
            "memorySizeMB": row["memory_mb"],
            "maxMemoryUsedMB": int(row["max_memory_used_mb"]),
        }
        starts = {"initDurationMs": row["init_ms"], "restoreDurationMs": row["restore_ms"]}
        metrics |= {name: ms for name, ms in starts.items() if ms is not None}
        record: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": status}
        if error_type:
            record["errorType"] = error_type
        lines.append((end, json.dumps({"time": iso(end), "type": "platform.report", "record": record})))
    else:
        if row["outcome"] == "timeout":
            lines.append(
                (end, f"{iso(end)} {request_id} Task timed out after {row['duration_ms'] / 1000:.2f} seconds\n")
            )
        lines.append((end, f"END RequestId: {request_id}\n"))
        fields = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {row['duration_ms']:.2f} ms",
            f"Billed Duration: {row['billed_ms']:.0f} ms",
            f"Memory Size: {row['memory_mb']} MB",
            f"Max Memory Used: {row['max_memory_used_mb']:.0f} MB",
        ]
        starts = {"Init Duration": row["init_ms"], "Restore Duration": row["restore_ms"]}
        fields += [f"{name}: {ms:.2f} ms" for name, ms in starts.items() if ms is not None]
        if status != "success":
            fields.append(f"Status: {status}")
        if error_type:
            fields.append(f"Error Type: {error_type}")
        lines.append((end, "\t".join(fields) + "\t\n"))
    if row["source"] == "lab":
        record = {
            "requestId": request_id,
            "limits": row["limits"],
            "timeScale": row["time_scale"],
            "hostContended": row["host_contended"],
            "majorPageFaults": row["major_page_faults"],
        }
        lines.append((end, json.dumps({"type": "lab.conditions", "time": iso(end), "record": record})))
    return lines


def log_events(rows: Iterable[dict[str, Any]], *, log_format: str = "JSON") -> list[dict[str, Any]]:
    """Events of one log group as `filter_log_events` gives them: by time over all streams."""
    events: list[tuple[int, int, str, str]] = []
    for row in rows:
        for at, message in log_lines(row, log_format=log_format):
            events.append((round(at * 1000), len(events), row["log_stream"], message))
    events.sort(key=lambda event: event[:2])
    return [
        {
            "logStreamName": stream,
            "timestamp": at,
            "ingestionTime": at + 40,
            "message": message,
            "eventId": f"{at:014d}{place:012d}",
        }
        for at, place, stream, message in events
    ]


def write_run(
    root: Path,
    configuration: Configuration,
    rows: Sequence[dict[str, Any]],
    *,
    log_format: str = "JSON",
    profile: str = "",
    page_size: int = 10_000,
) -> RunDirectory:
    """Write manifest, client records and raw logs of these rows below `root`/<run_id>."""
    run = RunDirectory(root / rows[0]["run_id"])
    run.client_directory.mkdir(parents=True)
    run.write_manifest(manifest_of(configuration, rows, profile=profile))
    for experiment in ("cold", "warm", "load"):
        lines = [json.dumps(client_record(row)) for row in rows if row["experiment"] == experiment]
        (run.client_directory / f"{experiment}.jsonl").write_text("".join(line + "\n" for line in lines))
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    for variant in configuration.variants:
        events = log_events(by_variant.get(variant.key, ()), log_format=log_format)
        directory = run.raw_directory / "logs" / configuration.names.function(variant)
        directory.mkdir(parents=True)
        pages = [events[start : start + page_size] for start in range(0, len(events), page_size)] or [[]]
        for number, page in enumerate(pages):
            data = "".join(json.dumps(event) + "\n" for event in page).encode()
            (directory / f"{number:06d}.jsonl.gz").write_bytes(gzip.compress(data, 1, mtime=0))
        cursor = {
            "log_group": configuration.names.log_group(variant),
            "start_ms": round((min(row["intended_at"] for row in rows) - 60) * 1000),
            "end_ms": round((max(row["intended_at"] for row in rows) + 600) * 1000),
            "pages": len(pages),
            "next_token": None,
            "done": True,
        }
        (directory / "cursor.json").write_text(json.dumps(cursor))
    return run


def summary_of(configuration: Configuration, rows: Sequence[dict[str, Any]], extras: Extras | None = None) -> Summary:
    """The summary of these rows."""
    return make_summary(frame(rows), manifest_of(configuration, rows), configuration, read_prices(), extras)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    configuration = read_configuration(profile=sys.argv[2] if len(sys.argv) > 2 else "")
    run = write_run(root, configuration, make_rows(configuration), profile=configuration.profile)
    print(run.root)


if __name__ == "__main__":
    main()
