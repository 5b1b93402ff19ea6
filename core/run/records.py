"""The schema of what is recorded: client records, as they happen, and invocations, one row each.

Schema history
--------------
1  first version
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 1

Experiment = Literal["cold", "warm", "load"]
Trigger = Literal["schedule", "api", "invoke"]
Source = Literal["aws", "lab"]
StartType = Literal["cold", "warm", "unknown"]
Outcome = Literal[
    "ok",
    "throttled",
    "gateway_timeout",
    "out_of_memory",
    "init_timeout",
    "timeout",
    "error",
    "connection",
    "dropped",  # the load generator had no room left to send it: offered, never sent
    "pending",  # asynchronous: sent or scheduled, its outcome is in the logs alone
    "missing",  # sent, and found neither in a response nor in the logs
]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)

# Outcomes of calls that reached no function.
NEVER_INVOKED: Final[tuple[Outcome, ...]] = ("dropped", "throttled")
# Outcomes of calls that need no log. A call whose connection failed may have run before the answer was lost: a log is
# joined with it where there is one, and its cost counts as possible, but nothing is incomplete without one.
WITHOUT_LOG: Final[tuple[Outcome, ...]] = (*NEVER_INVOKED, "connection")

# How an environment comes to be, in the words of AWS_LAMBDA_INITIALIZATION_TYPE.
Initialization = Literal["on-demand", "snap-start", "provisioned-concurrency"]
PROVISIONED: Final[Initialization] = "provisioned-concurrency"

# Evidence by which the start type of an invocation is decided, strongest first.
StartEvidence = Literal[
    "initialised_ahead",  # its init was over before it was asked for: no caller waited for it
    "restore_duration",  # REPORT carries a Restore Duration: a new environment, restored from a snapshot
    "call_number",  # the function's own counter within its execution environment
    "init_duration",  # REPORT carries an Init Duration
    "init_report",  # INIT_REPORT of a failed init stands before it
    "first_in_stream",  # first START of its log stream
    "none",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Phases(_Record):
    """Phases of an environment's start as the handler timed them; None where a phase did not run in this call."""

    import_ms: float | None = None
    load_ms: float | None = None
    first_inference_ms: float | None = None


class HandlerFacts(_Record):
    """The facts that the handler answers and logs for each call: an ok response's body without the prediction."""

    schema_version: int
    model: str
    engine: str
    architecture: str
    weights: Literal["imagenet", "random", "own"]
    memory_mb: int
    request_id: str
    environment_id: str
    call_number: int = Field(ge=1)
    cold: bool
    image: str
    inference_ms: float
    decode_ms: float
    handler_ms: float
    init_to_call_ms: float | None = None  # of an environment's first call: long if its init ran ahead of need
    initialization: str | None = None  # `Initialization`; None from images of earlier versions
    phases: Phases


class ClientRecord(_Record):
    """One call as its sender saw it; times are seconds since the epoch on the client's clock."""

    schema_version: Literal[1] = 1
    run_id: str
    call_id: str  # unique within the run; a resumed run never repeats one
    experiment: Experiment
    protocol: str  # scheduled, forced, burst, gateway; sequential; linear, steps, constant
    trigger: Trigger
    variant: str  # Variant.key
    model: str
    engine: str
    architecture: str
    memory_mb: int
    warmup: bool = False  # labeled, kept, left out of warm statistics
    first_after_deploy: bool = False
    group: str = ""  # burst-10/3: the calls that were sent together
    connection: Literal["kept", "new", "none"] = "none"
    intended_at: float
    sent_at: float | None = None
    answered_at: float | None = None
    connect_ms: float | None = None  # DNS, TCP and TLS of a new connection, not part of client_latency_ms
    client_latency_ms: float | None = None  # from sent_at
    latency_from_intended_ms: float | None = None  # what a user waits for under load
    http_status: int | None = None
    outcome: Outcome
    error: str = ""
    request_id: str | None = None  # Lambda's; joins with the logs
    gateway_request_id: str | None = None
    handler: HandlerFacts | None = None
    time_scale: float = 1.0


LimitsMechanism = Literal["auto", "cgroup-v2", "cgroup-v1", "duty-cycle", "none"]  # what a lab can be asked for


class LimitsInForce(_Record):
    """The limits that the platform enforces on an execution environment."""

    driver: str  # "aws", "process" or "container"
    cpu: str  # "aws", "cgroup-v2", "cgroup-v1", "duty-cycle", "container", "none"
    memory: str
    freezer: str

    @property
    def mechanism(self) -> str:
        """What enforces CPU share and memory: one name, or "cgroup-v1/none" where the two differ."""
        return self.cpu if self.cpu == self.memory else f"{self.cpu}/{self.memory}"

    @property
    def not_enforced(self) -> tuple[str, ...]:
        """The limits that nothing enforces, out of "cpu" and "memory"."""
        return tuple(name for name in ("cpu", "memory") if getattr(self, name) == "none")

    @property
    def memory_sizes_are_comparable(self) -> bool:
        """Whether results of different memory sizes may be compared: only if CPU share and memory are enforced."""
        return not self.not_enforced


class EndpointFacts(_Record):
    """Where a run was measured."""

    source: Source
    endpoint_url: str | None
    account_id: str
    region: str
    host: str  # of the lab; "" for AWS
    host_cpus: float | None = None
    limits: LimitsInForce
    time_scale: float = 1.0
    idle_s: float | None = None  # the lab's own; AWS does not say
    not_modelled: tuple[str, ...] = ()  # what the lab leaves out, said wherever its figures stand
    isa: tuple[str, ...] = ()  # instruction sets of the lab's host, as its kernel names them; AWS does not say
    isa_cap: str = ""  # "avx2": engines that can be capped use no wider one; "": the host's


class Manifest(_Record):
    """The description of a run: written at its start; only `finished_at` and `stopped_because` change."""

    schema_version: Literal[1] = 1
    run_id: str
    started_at: float
    finished_at: float | None = None
    stopped_because: str = ""
    endpoint: EndpointFacts
    configuration: dict[str, Any]
    profile: str
    experiments: tuple[Experiment, ...]
    seed: int
    versions: dict[str, str]
    commit: str  # with "-dirty" where the work tree differed
    prices_date: str = ""


# Columns of data/invocations.parquet; polars types by name.
INVOCATION_COLUMNS: Final[dict[str, str]] = {
    "schema_version": "Int32",
    "run_id": "String",
    "call_id": "String",  # null where the logs hold a call that no client recorded
    "experiment": "String",
    "protocol": "String",
    "trigger": "String",
    "source": "String",
    "region": "String",
    "host": "String",
    "variant": "String",
    "model": "String",
    "engine": "String",
    "architecture": "String",
    "memory_mb": "Int32",
    "weights": "String",
    "warmup": "Boolean",
    "first_after_deploy": "Boolean",
    "group": "String",
    "connection": "String",
    "request_id": "String",
    "gateway_request_id": "String",
    "log_stream": "String",
    "environment_id": "String",
    "call_number": "Int32",
    "initialization": "String",  # of its environment, `Initialization`; null where nothing tells
    "start_type": "String",
    "start_evidence": "String",
    "outcome": "String",
    "error": "String",
    "http_status": "Int32",
    "intended_at": "Float64",
    "sent_at": "Float64",
    "answered_at": "Float64",
    "logged_at": "Float64",  # START on the platform's clock; REPORT less the duration where that is earlier
    "connect_ms": "Float64",
    "client_latency_ms": "Float64",
    "latency_from_intended_ms": "Float64",
    "duration_ms": "Float64",
    "billed_ms": "Float64",
    "init_ms": "Float64",
    "init_status": "String",  # null, "success", "ahead" (of the call, which did not wait for it), "timeout" or "error"
    "restore_ms": "Float64",
    "max_memory_used_mb": "Float64",
    "handler_ms": "Float64",
    "inference_ms": "Float64",
    "decode_ms": "Float64",
    "import_ms": "Float64",
    "load_ms": "Float64",
    "first_inference_ms": "Float64",
    "init_to_call_ms": "Float64",
    "major_page_faults": "Int64",  # the lab's own; null on AWS
    "host_contended": "Boolean",  # the lab's own: environments were due more CPU than the host gave
    "limits": "String",  # LimitsInForce.mechanism: "aws", "cgroup-v1", "duty-cycle", "none"
    "time_scale": "Float64",
}
