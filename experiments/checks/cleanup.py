"""Switch off what a run left on, and list what costs money."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from core.aws.cloud import Cloud, cloud_errors, stack_outputs, stack_status
from core.aws.load_tasks import BUCKET_OUTPUT
from core.configuration import Configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError
from core.money.charges import network_rest_usd, provisioned_usd
from core.money.prices import Prices, read_prices
from core.variants import GROUPS
from experiments.aws.lambda_control import NONCE_VARIABLE, LambdaControl
from experiments.aws.load_tasks import nat_gateways, stop_all_tasks
from experiments.aws.scheduler import Scheduler
from experiments.checks.findings import Finding, findings_json, guarded, has_problem, print_findings
from experiments.checks.first_calls import CalledImages
from experiments.checks.spend import usd

MB: Final = 1024 * 1024
DESTROY: Final = "`cdk destroy` removes it."
LEFT: Final = "No stack owns it any more: delete it."


def clean_up(configuration: Configuration, results: Path, *, remove_images: bool, as_json: bool = False) -> int:
    """Switch off, restore, list what is left; exit code 2 when something stays on or is left without an owner.

    Switching off comes first, and a part that AWS refuses keeps no other part from being done: this is the command
    for a bad day. Each finding is printed as it is made.
    """
    cloud = Cloud()
    absent: list[str] = []
    parts: list[Callable[[], list[Finding]]] = [
        lambda: _switch_off(cloud, configuration),
        lambda: _stop_load_tasks(cloud, configuration),
        lambda: _take_nonces_back(cloud, configuration),
        lambda: _find_stack(cloud, configuration, absent),
        lambda: [] if absent else _load_records(cloud, configuration),
        lambda: _what_costs(cloud, configuration, owned=not absent),
        lambda: _images(cloud, configuration, results, remove=remove_images),
    ]
    findings: list[Finding] = []
    for part in parts:
        # An error that every part would meet, such as missing credentials, is reported once.
        found = [finding for finding in guarded(part) if finding not in findings]
        if not as_json:
            print_findings(found, sys.stdout, all_of_them=True)
        findings += found
    if as_json:
        print(findings_json(findings))
    elif not findings:
        print(Finding("ok", "everything", "no stack is deployed, and nothing is left of one"))
    return EXIT_CHECK_FAILED if has_problem(findings) else EXIT_OK


def _find_stack(cloud: Cloud, configuration: Configuration, absent: list[str]) -> list[Finding]:
    """Report the stack, or put its name into `absent` where AWS says that it is not deployed."""
    name = configuration.names.stack
    status = stack_status(cloud, name)
    if status is None:
        absent.append(name)
        return []
    return [Finding("ok", f"stack {name}", f"{status}; {DESTROY}")]


def _switch_off(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    scheduler = Scheduler(cloud, configuration)
    findings = []
    by_name = {configuration.names.schedule(variant): variant for variant in configuration.variants}
    for state in scheduler.live(time.time()):
        subject = f"schedule {state.name}"
        variant = by_name.get(state.name)
        if variant is None:
            # Of another profile's deployment; its name is all that is known.
            advice = "It is not in this profile. Name the profile it was deployed with, or disable it by hand."
            findings.append(Finding("problem", subject, "is on", advice))
            continue
        scheduler.disable(variant)
        findings.append(Finding("ok", subject, "was on, and is off now"))
    # Looked at again, rather than believed; of a group that is gone there is nothing to say.
    if not scheduler.live(time.time()) and _schedule_groups(cloud, configuration.names.schedule_group):
        findings.append(Finding("ok", "schedules", "all are off"))
    return findings


def _stop_load_tasks(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    stopped = stop_all_tasks(cloud, configuration.names.load_tasks, "cleanup")
    text = f"{stopped} were running and are asked to end, which takes up to two minutes"
    return [Finding("ok", "load tasks on Fargate", text)] if stopped else []


def _take_nonces_back(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    control = LambdaControl(cloud, configuration)
    return [
        Finding("ok", f"function {control.function_name(variant)}", f"{NONCE_VARIABLE} was left behind; removed")
        for variant in configuration.variants
        if control.configuration_of(variant) is not None and control.remove_nonce(variant)
    ]


def _load_records(cloud: Cloud, configuration: Configuration) -> list[Finding]:
    """Report what an interrupted load left in its bucket, which CloudFormation deletes only when it is empty."""
    _, outputs = stack_outputs(cloud, configuration)
    bucket = outputs.get(BUCKET_OUTPUT)
    left = len(list(_pages(cloud, "s3", "list_objects_v2", "Contents", Bucket=bucket))) if bucket else 0
    if not left:
        return []
    advice = (
        "Resume the run with `--on fargate`, which fetches them, or empty the bucket: `cdk destroy` fails until then."
    )
    return [Finding("problem", f"bucket {bucket}", f"{left} objects of an interrupted load", advice)]


def _what_costs(cloud: Cloud, configuration: Configuration, *, owned: bool) -> list[Finding]:
    """Everything of our names that is there, with what it costs; without a stack it should not be there."""
    names, prices = configuration.names, read_prices(configuration.prices)
    parts: list[tuple[str, str]] = [
        *_functions(cloud, f"{names.prefix}-", prices),
        *_log_groups(cloud, names.log_groups),
        *_log_groups(cloud, names.access_log_groups),
        *_apis(cloud, {names.api(group) for group in GROUPS}),
        *_api_keys(cloud, names.prefix),
        *_schedule_groups(cloud, names.schedule_group),
        *_dashboards(cloud, names.dashboard, prices),
        *_nat_gateways(cloud, names.prefix, prices),
        *_log_groups(cloud, names.load_log_group),
    ]
    if owned:
        return [Finding("ok", subject, text) for subject, text in parts]
    return [Finding("problem", subject, text, LEFT) for subject, text in parts]


def _functions(cloud: Cloud, prefix: str, prices: Prices) -> list[tuple[str, str]]:
    """Functions, and their provisioned environments, which cost for as long as they are deployed."""
    functions, kept, usd_per_hour = 0, 0, 0.0
    for item in _pages(cloud, "lambda", "list_functions", "Functions"):
        name = item["FunctionName"]
        if not name.startswith(prefix):
            continue
        functions += 1
        configs = _pages(
            cloud, "lambda", "list_provisioned_concurrency_configs", "ProvisionedConcurrencyConfigs", FunctionName=name
        )
        count = sum(one["RequestedProvisionedConcurrentExecutions"] for one in configs)
        kept += count
        (architecture,) = item.get("Architectures", ["x86_64"])
        usd_per_hour += provisioned_usd(item["MemorySize"], count, 3600.0, architecture, prices)
    found = {
        "functions": (functions, "no cost while nobody calls them, but for what is named here"),
        "provisioned environments": (kept, f"{usd(usd_per_hour)} per hour, called or not"),
    }
    return [(what, f"{count}, {cost}") for what, (count, cost) in found.items() if count]


def _log_groups(cloud: Cloud, prefix: str) -> list[tuple[str, str]]:
    groups = list(_pages(cloud, "logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix))
    if not groups:
        return []
    stored_mb = sum(group.get("storedBytes", 0) for group in groups) / MB
    days = sorted({group.get("retentionInDays", 0) for group in groups})
    kept = ", ".join("for ever" if day == 0 else f"{day} days" for day in days)
    return [("log groups", f"{len(groups)} with {stored_mb:.1f} MB, kept {kept}: storage per GB and month")]


def _apis(cloud: Cloud, names: set[str]) -> list[tuple[str, str]]:
    found = [item["id"] for item in _pages(cloud, "apigateway", "get_rest_apis", "items") if item["name"] in names]
    return [("REST API", f"{', '.join(found)}: answers whoever has its key, and each call costs")] if found else []


def _api_keys(cloud: Cloud, prefix: str) -> list[tuple[str, str]]:
    keys = _pages(cloud, "apigateway", "get_api_keys", "items")
    found = [item["name"] for item in keys if item.get("name", "").startswith(prefix)]
    return [("API keys", ", ".join(found))] if found else []


def _schedule_groups(cloud: Cloud, name: str) -> list[tuple[str, str]]:
    groups = _pages(cloud, "scheduler", "list_schedule_groups", "ScheduleGroups", NamePrefix=name)
    found = [group for group in groups if group["Name"] == name]
    return [("schedule group", f"{name}, no cost while its schedules are off")] if found else []


def _dashboards(cloud: Cloud, prefix: str, prices: Prices) -> list[tuple[str, str]]:
    entries = _pages(cloud, "cloudwatch", "list_dashboards", "DashboardEntries", DashboardNamePrefix=prefix)
    names = {prefix, *(f"{prefix}-{group}" for group in GROUPS)}
    found = [entry["DashboardName"] for entry in entries if entry["DashboardName"] in names]
    price = f"{usd(prices['dashboard_month_usd'])} per month beyond an account's first three"
    return [("dashboard", f"{name}: {price}") for name in found]


def _nat_gateways(cloud: Cloud, prefix: str, prices: Prices) -> list[tuple[str, str]]:
    """The load tasks' way out, which costs for as long as it is deployed."""
    price = f"{usd(network_rest_usd(1.0, prices))} per hour with its public address"
    return [("NAT gateway", f"{gateway}: {price}") for gateway in nat_gateways(cloud, prefix)]


def _pages(cloud: Cloud, service: str, operation: str, key: str, **arguments: Any) -> Iterable[dict[str, Any]]:
    with cloud_errors():
        for page in cloud.client(service).get_paginator(operation).paginate(**arguments):
            yield from page.get(key, [])


def _images(cloud: Cloud, configuration: Configuration, results: Path, *, remove: bool) -> list[Finding]:
    """Images that runs have called: `cdk destroy` leaves them in the bootstrap stack's repository."""
    control = LambdaControl(cloud, configuration)
    deployed = [v for v in configuration.variants if control.configuration_of(v) is not None]
    used = {control.image_of(variant) for variant in deployed}
    candidates = CalledImages(results, cloud.endpoint_facts()).uris() - used
    running = _digests_of_all_functions(cloud) if candidates else set()
    findings = []
    for uri in sorted(used | candidates):
        subject = f"image {uri.rpartition(':')[2][:12]}"
        image = _image(cloud, uri)
        if image is None:
            continue
        text = f"{image.get('imageSizeInBytes', 0) / MB:.0f} MB in ECR: storage per GB and month"
        if uri in used or image["imageDigest"] in running:
            findings.append(Finding("ok", subject, text))
        elif remove:
            _delete_image(cloud, uri)
            findings.append(Finding("ok", subject, "was unused; deleted"))
        else:
            advice = "`inference-lab experiments cleanup --images` deletes it; so does `cdk gc`."
            findings.append(Finding("problem", subject, f"{text}; no function uses it", advice))
    return findings


def _digests_of_all_functions(cloud: Cloud) -> set[str]:
    """Digests of the images that any function of the account and region runs: another deployment may share ours.

    From the list alone: GetFunction would hand out other teams' code.
    """
    return {f"sha256:{item['CodeSha256']}" for item in _pages(cloud, "lambda", "list_functions", "Functions")}


def _image(cloud: Cloud, uri: str) -> dict[str, Any] | None:
    """ImageDetail of DescribeImages, or None where the image is not there."""
    repository, image_id = _image_id(uri)
    client = cloud.client("ecr")
    with cloud_errors():
        try:
            answer = client.describe_images(repositoryName=repository, imageIds=[image_id])
        except (client.exceptions.ImageNotFoundException, client.exceptions.RepositoryNotFoundException):
            return None
    return next(iter(answer["imageDetails"]), None)


def _delete_image(cloud: Cloud, uri: str) -> None:
    repository, image_id = _image_id(uri)
    with cloud_errors():
        answer = cloud.client("ecr").batch_delete_image(repositoryName=repository, imageIds=[image_id])
    if answer.get("failures"):
        raise UserError(
            f"{uri} could not be deleted: {answer['failures'][0].get('failureReason', 'no reason given')}",
            hint="Delete it by hand in ECR.",
        )


def _image_id(uri: str) -> tuple[str, dict[str, str]]:
    """Repository and image id of `registry/repository:tag` or `registry/repository@digest`."""
    path = uri.partition("/")[2]
    if "@" in path:
        repository, _, digest = path.partition("@")
        return repository, {"imageDigest": digest}
    repository, _, tag = path.partition(":")
    return repository, {"imageTag": tag}
