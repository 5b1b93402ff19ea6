"""The addresses of what is deployed to a running lab."""

from __future__ import annotations

import boto3
import botocore.exceptions
from botocore.config import Config

from core.errors import UserError
from lab.settings import DEFAULT_REGION, lab_url, stage_url


def deployed_urls(port: int) -> list[tuple[str, str]]:
    """Name and address of every stage of every REST API in the lab at this port. Raises UserError where none runs."""
    client = boto3.client(
        "apigateway",
        endpoint_url=lab_url(port),
        region_name=DEFAULT_REGION,
        # Stand-ins: the lab checks no signature.
        aws_access_key_id="lab",
        aws_secret_access_key="lab",  # noqa: S106 - as above
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, proxies={}),
    )
    try:
        return [
            (f"{api['name']} {stage['stageName']}", stage_url(port, api["id"], stage["stageName"]))
            for api in client.get_rest_apis()["items"]
            for stage in client.get_stages(restApiId=api["id"])["item"]
        ]
    except botocore.exceptions.BotoCoreError as error:
        raise UserError(
            f"no lab answers at {lab_url(port)}: {error}",
            hint="Start one with `inference-lab lab serve`, or give its --port.",
        ) from None
