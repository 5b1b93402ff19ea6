"""The parts of a deployment that protocols call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from core.aws.cloud import Cloud, Deployment, find_deployment
from core.configuration import Configuration
from core.run.records import EndpointFacts
from experiments.aws.function_logs import FunctionLogs
from experiments.aws.lambda_control import LambdaControl
from experiments.aws.load_tasks import Fargate, find_load_stack
from experiments.aws.scheduler import Scheduler
from experiments.checks.first_calls import CalledImages, FirstCalls


@dataclass(frozen=True)
class Services:
    """One seam per AWS service, and what is deployed behind them."""

    deployment: Deployment
    control: LambdaControl
    scheduler: Scheduler
    logs: FunctionLogs
    first_calls: FirstCalls
    fargate: Fargate | None  # where the load runs, unless on this machine

    @classmethod
    def connect(
        cls, cloud: Cloud, configuration: Configuration, endpoint: EndpointFacts, results: Path, *, workers: int
    ) -> Self:
        """Find the deployment of this configuration. Raises DeploymentError if there is none.

        `workers` is the number of Fargate tasks that send the load; 0 is this machine.
        """
        control, logs = LambdaControl(cloud, configuration), FunctionLogs(cloud, configuration)
        return cls(
            deployment=find_deployment(cloud, configuration),
            control=control,
            scheduler=Scheduler(cloud, configuration),
            logs=logs,
            first_calls=FirstCalls(control, logs, CalledImages(results, endpoint)),
            fargate=Fargate(cloud, find_load_stack(cloud, configuration), workers) if workers else None,
        )
