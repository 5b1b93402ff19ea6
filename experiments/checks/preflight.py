"""Everything that would spoil a run, looked at in seconds before its first call."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from core.aws.cloud import Cloud, CredentialFacts, cloud_errors, find_deployment, stack_status
from core.aws.http_connections import connection_to
from core.aws.load_tasks import TASK_VCPU, WORKER_RPS, workers_for
from core.configuration import Configuration
from core.errors import CloudError, DeploymentError, UserError
from core.money.prices import read_prices
from core.run.records import EndpointFacts, Experiment
from core.variants import Variant
from experiments.aws.lambda_control import NONCE_VARIABLE, LambdaControl
from experiments.aws.load_tasks import QUOTA_CODE, QUOTA_SERVICE, SWITCH, find_load_stack, vcpu_quota
from experiments.aws.scheduler import Scheduler, ScheduleState
from experiments.checks.findings import Finding, guarded
from experiments.checks.spend import capacity_usd, estimate, total, usd
from experiments.plan import steps
from loadtests.arrivals import shape_of

DEPLOY: Final = "Deploy it with `cdk deploy`, under the same profile (BENCHMARK_PROFILE)."
CLEANUP: Final = "Run `inference-lab experiments cleanup`."
# New accounts get these; see the quota "Concurrent executions" and https://docs.aws.amazon.com/lambda/latest/dg/limits.html
NEW_ACCOUNT_MEMORY_MB: Final = 3008
# A signature is refused when it is off by five minutes; before that, times of logs and client drift apart.
CLOCK_REFUSED_S: Final = 300.0
CLOCK_NOTICED_S: Final = 2.0
DATE_RESOLUTION_S: Final = 1.0
RUN_MARGIN: Final = 1.1  # the duration of a run is an estimate
RENEWED: Final = "Credentials of a profile with SSO or an assumed role are renewed by themselves."
CONNECT_PATIENCE_S: Final = 10.0
CONNECT: Final = (
    "Check HTTPS_PROXY and NO_PROXY. If a proxy replaces certificates, set AWS_CA_BUNDLE to the file of its own."
)
GATEWAY_DEFAULT_MS: Final = 29_000  # an integration that names no timeout
AT_ONCE: Final = 8


def check_everything(
    cloud: Cloud, configuration: Configuration, experiments: Sequence[Experiment], *, workers: int = 0
) -> list[Finding]:
    """All checks, each of which finds something or says that it is well. Never raises for what it finds.

    `workers` are the Fargate tasks that send the load; 0 is this machine.
    """
    endpoint, findings = _ask_endpoint(cloud)
    if endpoint is None:
        return findings
    findings += check_endpoint(endpoint)
    control, scheduler = LambdaControl(cloud, configuration), Scheduler(cloud, configuration)
    scheduled = "cold" in experiments and "scheduled" in configuration.experiments.cold.protocols
    checks: list[Callable[[], list[Finding]]] = [
        lambda: _check_clock(cloud),
        lambda: _check_credentials(cloud, configuration, experiments, time_scale=endpoint.time_scale),
        lambda: _check_connection(cloud, configuration),
        lambda: _check_stack(cloud, configuration),
        lambda: _check_functions(control, configuration),
        lambda: _check_starts(control, configuration),
        lambda: _check_gateway(cloud, configuration),
        lambda: check_concurrency(
            control.account_limits()["UnreservedConcurrentExecutions"], configuration, experiments
        ),
        lambda: check_live(scheduler.live(time.time())),
        *([lambda: _check_schedules(scheduler, configuration)] if scheduled else []),
        *([lambda: _check_load_tasks(cloud, configuration, endpoint, workers)] if workers else []),
    ]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for found in pool.map(guarded, checks):
            findings += found
    return findings


def _ask_endpoint(cloud: Cloud) -> tuple[EndpointFacts | None, list[Finding]]:
    try:
        endpoint = cloud.endpoint_facts()
        region = cloud.region
    except UserError as error:
        return None, [Finding("problem", "credentials and region", error.message, error.hint or "See the message.")]
    where = f"account {endpoint.account_id}, region {region}"
    if endpoint.source == "lab":
        where = f"lab at {endpoint.endpoint_url} on {endpoint.host}, time scale {endpoint.time_scale:g}"
    return endpoint, [Finding("ok", "endpoint", where)]


def check_endpoint(endpoint: EndpointFacts) -> list[Finding]:
    """Report the limits that a lab cannot enforce; nothing on AWS."""
    missing = endpoint.limits.not_enforced
    if endpoint.source == "aws" or not missing:
        return []
    return [
        Finding(
            "warning",
            "limits",
            f"the lab enforces no limit on {' and '.join(missing)}: memory sizes will not differ as they do on Lambda",
            "`inference-lab lab doctor` shows how to enable limits. The records and the report repeat this warning.",
        )
    ]


def _check_clock(cloud: Cloud) -> list[Finding]:
    with cloud_errors():
        before = time.time()
        answer = cloud.client("lambda").get_account_settings()
        after = time.time()
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    return [check_clock_offset(date, before, after)]


def check_clock_offset(date: str, before: float, after: float) -> Finding:
    """Compare an answer's Date header, which is cut to the second, with the clock around the request."""
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("warning", "clock", f"the answer's Date is {date!r}", "Compare the clock with a time server.")
    # They read their clock between our two looks, and cut up to a second off.
    ahead_s = max(0.0, before - (theirs + DATE_RESOLUTION_S), theirs - after)
    if ahead_s <= CLOCK_NOTICED_S:
        return Finding("ok", "clock", f"within {CLOCK_NOTICED_S:g} s of theirs")
    return Finding(
        "problem" if ahead_s >= CLOCK_REFUSED_S else "warning",
        "clock",
        f"{ahead_s:.0f} s off theirs",
        "Set it by a time server (`timedatectl set-ntp true`): logs are looked up by this clock.",
    )


def _check_credentials(
    cloud: Cloud, configuration: Configuration, experiments: Sequence[Experiment], *, time_scale: float
) -> list[Finding]:
    prices = read_prices(configuration.prices)
    planned = steps(configuration, experiments, time_scale=time_scale)
    run_s = total([estimate(step, configuration, prices) for step in planned]).duration_s
    return [check_credentials(cloud.credentials(), now=time.time(), run_s=run_s)]


def check_credentials(credentials: CredentialFacts, *, now: float, run_s: float) -> Finding:
    """Compare the end of temporary credentials with the end of the run."""
    where = f"from {credentials.source}"
    takes = f"the run takes about {_hours(run_s)}"
    if not credentials.is_fixed:
        return Finding("ok", "credentials", where)
    if credentials.ends_at is None:
        advice = f"If they end first, sign in again and resume the run. {RENEWED}"
        return Finding("warning", "credentials", f"{where}, temporary, their end is not known; {takes}", advice)
    left_s = credentials.ends_at.timestamp() - now
    if left_s >= run_s * RUN_MARGIN:
        return Finding("ok", "credentials", f"{where}, end in {_hours(left_s)}; {takes}")
    advice = f"Sign in for longer, or measure in parts (`experiments cold`, `warm`, `load`). {RENEWED}"
    return Finding("problem", "credentials", f"{where}, end in {_hours(max(0.0, left_s))}; {takes}", advice)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _check_connection(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    try:
        apis = find_deployment(cloud, configuration).apis
    except DeploymentError:
        return []  # the check of the stack says it
    return [try_connection(api.url) for api in list(apis.values())[:1]]


def try_connection(url: str) -> Finding:
    """Open one connection as the experiments do: with TLS, and through the proxy, where the URL and environment say."""
    host = urlsplit(url).hostname
    began = time.perf_counter()
    try:
        connection = connection_to(url, timeout_s=CONNECT_PATIENCE_S)
        connection.connect()
    except (OSError, http.client.HTTPException) as error:
        return Finding("problem", "connection", f"to {host}: {type(error).__name__}: {error}", CONNECT)
    connection.close()
    return Finding("ok", "connection", f"to {host} in {(time.perf_counter() - began) * 1000:.0f} ms")


def _check_stack(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    name = configuration.names.stack
    status = stack_status(cloud, name)
    if status is None:
        return [Finding("problem", f"stack {name}", "not deployed", DEPLOY)]
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        return [Finding("ok", f"stack {name}", status)]
    return [Finding("problem", f"stack {name}", status, "Wait until it is complete, or deploy again.")]


def _check_functions(control: LambdaControl, configuration: Configuration) -> list[Finding]:
    variants = configuration.variants
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = dict(zip(variants, pool.map(control.configuration_of, variants), strict=True))
        deployed = [variant for variant in variants if found[variant] is not None]
        images = dict(zip(deployed, pool.map(control.image_of, deployed), strict=True))
        reserved = dict(zip(deployed, pool.map(control.reserved_concurrency, deployed), strict=True))
    if not deployed:
        return [Finding("problem", "functions", f"none of {len(variants)} is deployed", DEPLOY)]
    findings = [
        finding
        for variant in variants
        for finding in check_function(variant, found[variant], configuration, reserved.get(variant))
    ]
    findings += check_images(images)
    if not findings:
        findings = [Finding("ok", "functions", f"{len(variants)} deployed as configured, Active")]
    return findings


def check_function(
    variant: Variant, found: Mapping[str, Any] | None, configuration: Configuration, reserved: int | None
) -> list[Finding]:
    """Compare GetFunctionConfiguration's answer with the configuration."""
    subject = f"function {configuration.names.function(variant)}"
    if found is None:
        advice = DEPLOY
        if variant.memory_mb > NEW_ACCOUNT_MEMORY_MB:
            advice += f" A new account gets at most {NEW_ACCOUNT_MEMORY_MB} MB until AWS raises its quota."
        return [Finding("problem", subject, "not deployed", advice)]
    expected = {
        "MemorySize": variant.memory_mb,
        "Timeout": configuration.function.timeout_s,
        "Architectures": [variant.architecture],
    }
    findings = [
        Finding("problem", subject, f"{key} is {found.get(key)}, benchmark.toml says {value}", DEPLOY)
        for key, value in expected.items()
        if found.get(key) != value
    ]
    state = found.get("State", "Active")
    if state == "Inactive":
        advice = "It was not called for weeks. Call it once (`aws lambda invoke`), and wait until it is Active."
        findings.append(Finding("problem", subject, "its image is Inactive", advice))
    elif state != "Active":
        reason = found.get("StateReason") or "no reason given"
        findings.append(Finding("problem", subject, f"state {state}: {reason}", "Wait, or deploy again."))
    update = found.get("LastUpdateStatus", "Successful")
    if update != "Successful":
        reason = found.get("LastUpdateStatusReason") or "no reason given"
        findings.append(Finding("problem", subject, f"update {update}: {reason}", "Wait, or deploy again."))
    if NONCE_VARIABLE in found.get("Environment", {}).get("Variables", {}):
        findings.append(Finding("warning", subject, f"{NONCE_VARIABLE} was left by a forced cold start", CLEANUP))
    if reserved is not None:
        text = f"reserved concurrency {reserved}: more calls at once are throttled"
        findings.append(Finding("warning", subject, text, "Remove it, unless throttling is what you measure."))
    return findings


def _check_starts(control: LambdaControl, configuration: Configuration) -> list[Finding]:
    """Check what the alias serves: its snapshot, or its provisioned environments."""
    deployed = [one for one in configuration.variants if one.alias and control.configuration_of(one) is not None]
    findings = []
    for variant in deployed:
        if variant.start == "snapstart":
            findings += check_snapshot(variant, configuration, on=control.has_snapshot(variant))
        else:
            findings += check_provisioned(variant, configuration, *control.provisioned_status(variant))
    return [*findings, *check_capacity(configuration)]


def check_snapshot(variant: Variant, configuration: Configuration, *, on: bool) -> list[Finding]:
    """Judge whether SnapStart is on. AWS lists its regions, but none of those that have it for container images.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
    """
    if on:
        return []
    advice = f"{DEPLOY} If it stays off, this region may lack SnapStart for container images: leave it out."
    return [Finding("problem", f"function {configuration.names.function(variant)}", "SnapStart is off", advice)]


def check_provisioned(variant: Variant, configuration: Configuration, status: str, reason: str) -> list[Finding]:
    """Judge the status of a variant's provisioned concurrency; "" where it has none."""
    subject = f"function {configuration.names.function(variant)}"
    if status == "READY":
        return []
    if status == "IN_PROGRESS":
        return [Finding("warning", subject, "its environments are being provisioned", "The run waits for them.")]
    if not status:
        return [Finding("problem", subject, "has no provisioned concurrency", DEPLOY)]
    advice = "Its log group has the output of its init; the account's quota of concurrency may be too low."
    return [Finding("problem", subject, f"provisioned concurrency {status}: {reason or 'no reason given'}", advice)]


def check_capacity(configuration: Configuration) -> list[Finding]:
    """Say what provisioned environments cost for as long as they are deployed."""
    usd_per_hour = capacity_usd(configuration, 3600.0, read_prices(configuration.prices))
    if not usd_per_hour:
        return []
    found = f"costs {usd(usd_per_hour)} per hour while deployed, called or not; a lab charges nothing"
    return [Finding("warning", "provisioned concurrency", found, "Run `cdk destroy` when you have measured.")]


def check_images(images: Mapping[Variant, str]) -> list[Finding]:
    """Memory sizes of one model are compared with each other, so they have to run one image."""
    by_model: dict[tuple[str, str], set[str]] = {}
    for variant, image in images.items():
        by_model.setdefault((variant.model, variant.group), set()).add(image)
    return [
        Finding("problem", f"image of {model} ({group})", f"{len(uris)} different ones are deployed", DEPLOY)
        for (model, group), uris in by_model.items()
        if len(uris) > 1
    ]


def _check_gateway(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    client = cloud.client("apigateway")
    try:
        apis = find_deployment(cloud, configuration).apis
        paginator = client.get_paginator("get_resources")
        with cloud_errors():
            resources = [
                resource
                for api in apis.values()
                for page in paginator.paginate(restApiId=api.id, embed=["methods"])
                for resource in page["items"]
            ]
    except DeploymentError:
        return []  # the check of the stack says it
    except CloudError as error:
        advice = "Grant apigateway:GET on it, or see to it that it was deployed with this benchmark.toml."
        return [Finding("warning", "REST API", f"cannot be compared with benchmark.toml: {error.message}", advice)]
    return check_gateway(resources, configuration)


def check_gateway(resources: Iterable[Mapping[str, Any]], configuration: Configuration) -> list[Finding]:
    """Compare GetResources' answer, methods embedded, with the routes and the integration timeout configured."""
    methods = {resource["path"]: resource.get("resourceMethods", {}) for resource in resources}
    expected_ms = configuration.gateway.integration_timeout_ms
    findings = []
    waits_ms: set[int] = set()
    auths: set[str] = set()
    for variant in configuration.variants:
        integration = methods.get(variant.route, {}).get("GET", {}).get("methodIntegration")
        if integration is None:
            findings.append(Finding("problem", "REST API", f"GET {variant.route} is not deployed", DEPLOY))
            continue
        waits_ms.add(integration.get("timeoutInMillis", GATEWAY_DEFAULT_MS))
        auths.add("iam" if methods[variant.route]["GET"].get("authorizationType") == "AWS_IAM" else "api_key")
    findings += [
        Finding("problem", "REST API", f"integration timeout is {ms} ms, benchmark.toml says {expected_ms}", DEPLOY)
        for ms in sorted(waits_ms - {expected_ms})
    ]
    findings += [
        Finding("problem", "REST API", f"its auth is {auth}, benchmark.toml says {configuration.gateway.auth}", DEPLOY)
        for auth in sorted(auths - {configuration.gateway.auth})
    ]
    return findings or [Finding("ok", "REST API", f"{len(configuration.variants)} routes, 504 after {expected_ms} ms")]


def check_concurrency(room: int, configuration: Configuration, experiments: Sequence[Experiment]) -> list[Finding]:
    """Compare the account's concurrent executions with what the experiments ask for at once."""
    tables = configuration.experiments
    needs: dict[str, int] = {}
    if "cold" in experiments and "burst" in tables.cold.protocols:
        needs["the largest burst"] = max(tables.cold.burst_sizes)
    if "load" in experiments:
        peak = shape_of(tables.load).peak_rps
        # Little's law with a second a call: less is enough when calls are faster, more when environments start.
        needs[f"load of {peak:g} requests/s, at a second a call,"] = round(peak)
    findings = [
        Finding(
            # A tenth of what it needs: nearly every call would be throttled, and the run would measure that alone.
            "problem" if what.startswith("load") and room * 10 <= need else "warning",
            "concurrency",
            f"{what} needs {need} concurrent executions, the account has {room}",
            "Calls beyond it are throttled, which is recorded; a larger burst is not sent. "
            "Ask AWS for a higher quota, or configure less.",
        )
        for what, need in needs.items()
        if need > room
    ]
    return findings or [Finding("ok", "concurrency", f"{room} concurrent executions")]


def check_live(states: Iterable[ScheduleState]) -> list[Finding]:
    """Schedules that call a function while nobody measures."""
    return [Finding("warning", f"schedule {state.name}", "is on, and calls its function", CLEANUP) for state in states]


def _check_schedules(scheduler: Scheduler, configuration: Configuration) -> list[Finding]:
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        states = list(pool.map(scheduler.state, configuration.variants))
    expected = expected_expression(configuration.experiments.cold.interval_minutes)
    findings = [
        Finding("problem", f"schedule {state.name}", f"{state.expression}, benchmark.toml says {expected}", DEPLOY)
        for state in states
        if state.expression != expected
    ]
    return findings or [Finding("ok", "schedules", f"{len(states)} deployed, {expected}")]


def expected_expression(interval_minutes: int) -> str:
    """The rate expression that CDK writes for an interval: in the largest unit that divides it."""
    for unit, minutes in (("day", 1440), ("hour", 60)):
        if interval_minutes % minutes == 0:
            count = interval_minutes // minutes
            return f"rate({count} {unit}{'' if count == 1 else 's'})"
    return f"rate({interval_minutes} minute{'' if interval_minutes == 1 else 's'})"


def _check_load_tasks(
    cloud: Cloud, configuration: Configuration, endpoint: EndpointFacts, workers: int
) -> list[Finding]:
    try:
        find_load_stack(cloud, configuration)
    except DeploymentError as error:
        return [Finding("problem", "load tasks", error.message, error.hint or SWITCH)]
    findings = [check_fargate(vcpu_quota(cloud), workers, in_lab=endpoint.source == "lab")]
    peak_rps = configuration.experiments.load.peak_rps
    if workers < workers_for(peak_rps):
        text = f"{workers} workers send {peak_rps / workers:g} requests/s each; more than {WORKER_RPS:g} leave late"
        findings.append(Finding("warning", "load tasks", text, f"Use --workers {workers_for(peak_rps)}."))
    return findings


def check_fargate(quota_vcpu: float, workers: int, *, in_lab: bool) -> Finding:
    """Compare the account's quota of Fargate vCPU with what a master and its workers take."""
    need = TASK_VCPU * (workers + 1)
    text = f"a master and {workers} workers take {need} vCPU of Fargate, the account may run {quota_vcpu:g}"
    if need <= quota_vcpu:
        return Finding("ok", "load tasks", text)
    advice = f"Use fewer --workers, or ask AWS for more: quota {QUOTA_CODE} of {QUOTA_SERVICE}."
    if in_lab:
        advice = "A lab runs no Fargate tasks. Load it from this machine: omit --on fargate."
    return Finding("problem", "load tasks", text, advice)
