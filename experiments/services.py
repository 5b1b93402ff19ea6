"""The parts of a deployment that protocols call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from core.cloud import Cloud, Deployment, find_deployment
from core.configuration import Configuration
from core.records import EndpointFacts
from experiments.aws.function_logs import FunctionLogs
from experiments.aws.lambda_control import LambdaControl
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

    @classmethod
    def connect(cls, cloud: Cloud, configuration: Configuration, endpoint: EndpointFacts, results: Path) -> Self:
        """Find the deployment of this configuration. Raises DeploymentError where there is none."""
        control, logs = LambdaControl(cloud, configuration), FunctionLogs(cloud, configuration)
        return cls(
            deployment=find_deployment(cloud, configuration),
            control=control,
            scheduler=Scheduler(cloud, configuration),
            logs=logs,
            first_calls=FirstCalls(control, logs, CalledImages(results, endpoint)),
        )
