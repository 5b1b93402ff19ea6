"""ECS, S3, and EC2, as far as a load on Fargate tasks needs them: run, watch, and stop tasks, fetch what they wrote."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.aws.cloud import Cloud, cloud_errors, stack_outputs
from core.aws.load_tasks import CONTAINER, OUTPUTS, Part, run_prefix
from core.configuration import Configuration
from core.errors import CloudError, DeploymentError
from core.variants import DEPLOYMENT_TAG

SWITCH: Final = "Set `operations.load_tasks = true` in benchmark.toml, then run `cdk deploy`."
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html
TASKS_PER_LOOK: Final = 100
OBJECTS_PER_DELETE: Final = 1000
# Service Quotas' own names of "Fargate On-Demand vCPU resource count".
QUOTA_SERVICE: Final = "fargate"
QUOTA_CODE: Final = "L-3032A538"


@dataclass(frozen=True)
class LoadStack:
    """Where tasks run, by the outputs of the stack."""

    cluster: str
    task_definition: str
    subnet: str
    security_group: str
    bucket: str


@dataclass(frozen=True)
class TaskState:
    """The state of one task, as ECS reports it."""

    ended: bool
    exit_code: int | None  # of its container, once it has ended; None where it never started or was killed
    address: str  # its private address, "" until it has one
    reason: str  # why it ended, in ECS's words


def find_load_stack(cloud: Cloud, configuration: Configuration) -> LoadStack:
    """Find the part of the stack that runs tasks. Raises DeploymentError where it is not deployed."""
    status, outputs = stack_outputs(cloud, configuration)
    if missing := [name for name in OUTPUTS if not outputs.get(name)]:
        raise DeploymentError(
            f"stack {configuration.names.stack} is {status} and lacks output {missing[0]}: it has no load tasks",
            hint=SWITCH,
        )
    return LoadStack(*(outputs[name] for name in OUTPUTS))


def vcpu_quota(cloud: Cloud) -> float:
    """Return how many vCPUs of Fargate the account may run at once. Raises CloudError."""
    with cloud_errors():
        answer = cloud.client("service-quotas").get_service_quota(ServiceCode=QUOTA_SERVICE, QuotaCode=QUOTA_CODE)
    return float(answer["Quota"]["Value"])


class LoadTasks:
    """The tasks of one run."""

    def __init__(self, cloud: Cloud, stack: LoadStack, run_id: str) -> None:
        self._ecs = cloud.client("ecs")
        self._region = cloud.region
        self._stack = stack
        self._run_id = run_id

    def start(self, command: Sequence[str]) -> str:
        """Start one task and return its ARN. Raises CloudError where ECS does not start it."""
        with cloud_errors():
            answer = self._ecs.run_task(
                cluster=self._stack.cluster,
                taskDefinition=self._stack.task_definition,
                launchType="FARGATE",
                startedBy=self._run_id,
                networkConfiguration={
                    "awsvpcConfiguration": {
                        "subnets": [self._stack.subnet],
                        "securityGroups": [self._stack.security_group],
                        "assignPublicIp": "DISABLED",
                    }
                },
                overrides={"containerOverrides": [self._override(command)]},
            )
        if not answer["tasks"]:
            failure = (answer.get("failures") or [{}])[0]
            reason = " ".join(filter(None, (failure.get("reason"), failure.get("detail")))) or "no reason given"
            raise CloudError(
                f"a task was not started: {reason}", hint="Wait and resume the run, or use fewer --workers."
            )
        return str(answer["tasks"][0]["taskArn"])

    def _override(self, command: Sequence[str]) -> dict[str, Any]:
        region = [{"name": "AWS_DEFAULT_REGION", "value": self._region}]
        return {"name": CONTAINER, "command": list(command), "environment": region}

    def states(self, arns: Sequence[str]) -> Mapping[str, TaskState]:
        """Return the state of each task; one that ECS no longer knows has ended."""
        found: dict[str, TaskState] = {}
        for start in range(0, len(arns), TASKS_PER_LOOK):
            with cloud_errors():
                answer = self._ecs.describe_tasks(
                    cluster=self._stack.cluster, tasks=list(arns[start : start + TASKS_PER_LOOK])
                )
            found |= {task["taskArn"]: _state(task) for task in answer["tasks"]}
        forgotten = TaskState(ended=True, exit_code=None, address="", reason="ECS does not know it any more")
        return {arn: found.get(arn, forgotten) for arn in arns}

    def running(self) -> list[str]:
        """Return the ARNs of the run's tasks that are running, whichever process started them."""
        with cloud_errors():
            return _running(self._ecs, self._stack.cluster, startedBy=self._run_id)

    def stop(self, arns: Sequence[str], reason: str) -> None:
        """Ask tasks to end; each has two minutes to ship its last records."""
        with cloud_errors():
            _stop(self._ecs, self._stack.cluster, arns, reason)


def stop_all_tasks(cloud: Cloud, cluster: str, reason: str) -> int:
    """Ask every task of a cluster to end, whichever run started it; returns how many ran. Raises CloudError."""
    client = cloud.client("ecs")
    with cloud_errors():
        try:
            arns = _running(client, cluster)
        except client.exceptions.ClusterNotFoundException:
            return 0
        _stop(client, cluster, arns, reason)
    return len(arns)


def nat_gateways(cloud: Cloud, prefix: str) -> list[str]:
    """Return the ids of the NAT gateways that a deployment has, known by its tag. Raises CloudError."""
    states = [{"Name": "state", "Values": ["pending", "available"]}]
    with cloud_errors():
        pages = cloud.client("ec2").get_paginator("describe_nat_gateways").paginate(Filters=states)
        return [
            item["NatGatewayId"]
            for page in pages
            for item in page["NatGateways"]
            if {"Key": DEPLOYMENT_TAG, "Value": prefix} in item.get("Tags", [])
        ]


def _running(client: Any, cluster: str, **selecting: str) -> list[str]:
    pages = client.get_paginator("list_tasks").paginate(cluster=cluster, **selecting)
    return [arn for page in pages for arn in page["taskArns"]]


def _stop(client: Any, cluster: str, arns: Sequence[str], reason: str) -> None:
    for arn in arns:
        client.stop_task(cluster=cluster, task=arn, reason=reason)


def _state(task: Mapping[str, Any]) -> TaskState:
    addresses = [
        detail["value"]
        for attachment in task.get("attachments", [])
        for detail in attachment.get("details", [])
        if detail.get("name") == "privateIPv4Address"
    ]
    containers = task.get("containers", [])
    reasons = [task.get("stoppedReason", ""), *(container.get("reason", "") for container in containers)]
    return TaskState(
        ended=task["lastStatus"] == "STOPPED",
        exit_code=containers[0].get("exitCode") if containers else None,
        address=addresses[0] if addresses else "",
        reason=" ".join(filter(None, reasons)),
    )


class RunObjects:
    """The objects of one run in the bucket."""

    def __init__(self, cloud: Cloud, bucket: str, run_id: str) -> None:
        self._s3 = cloud.client("s3")
        self._bucket = bucket
        self._prefix = run_prefix(run_id)

    def put(self, name: str, content: bytes) -> None:
        """Store an object that every task of the run fetches."""
        with cloud_errors():
            self._s3.put_object(Bucket=self._bucket, Key=f"{self._prefix}{name}", Body=content)

    def parts(self) -> Iterator[Part]:
        """Yield the parts there are, those of one file by offset."""
        for key in self._keys():
            if (part := Part.from_key(key)) is not None:
                yield part

    def read(self, part: Part) -> bytes:
        """Return the content of a part. Raises CloudError."""
        with cloud_errors():
            body: bytes = self._s3.get_object(Bucket=self._bucket, Key=part.key)["Body"].read()
        return gzip.decompress(body)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no failure."""
        for start in range(0, len(keys), OBJECTS_PER_DELETE):
            batch = [{"Key": key} for key in keys[start : start + OBJECTS_PER_DELETE]]
            with cloud_errors():
                self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})

    def delete_all(self) -> None:
        """Delete everything of the run."""
        self.delete(list(self._keys()))

    def _keys(self) -> Iterator[str]:
        with cloud_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", []))


@dataclass(frozen=True)
class Fargate:
    """The place of a load that one machine cannot send, and its number of workers."""

    cloud: Cloud
    stack: LoadStack
    workers: int

    def tasks(self, run_id: str) -> LoadTasks:
        return LoadTasks(self.cloud, self.stack, run_id)

    def objects(self, run_id: str) -> RunObjects:
        return RunObjects(self.cloud, self.stack.bucket, run_id)
