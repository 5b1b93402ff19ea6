"""The seam to AWS: clients, where a run talks to, what is deployed.

AWS_ENDPOINT_URL alone decides whether that is AWS or a lab.
"""

from __future__ import annotations

import http.client
import os
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import boto3
import botocore.config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from core import strict_json
from core.aws.endpoint import ENDPOINT_VARIABLE, LAB_STATUS_PATH, REST_API_PATH, endpoint_url
from core.aws.endpoint_access import Access
from core.configuration import Configuration
from core.errors import CloudError, DeploymentError
from core.run.records import EndpointFacts, LimitsInForce
from core.variants import API_OUTPUTS, KEY_OUTPUT, Variant, part

DEPLOY_HINT: Final = "Deploy with `cdk deploy`."
# botocore renews those of any other source by itself.
FIXED_SOURCES: Final = frozenset({"env", "shared-credentials-file", "config-file"})
LAB_HINT: Final = "Is the lab up? Start it with `inference-lab lab serve`, or unset AWS_ENDPOINT_URL to talk to AWS."


@dataclass(frozen=True)
class CredentialFacts:
    """Facts about a session's credentials."""

    source: str  # botocore's word for its provider, for example "env", "sso" or "assume-role"
    is_fixed: bool  # temporary, and of a source that cannot renew them
    ends_at: datetime | None  # where the source says it


class Cloud:
    """Makes boto3 clients, and turns what goes wrong with AWS into errors a user can act on."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        with cloud_errors():
            self._session = session or boto3.session.Session()
        self._making = threading.Lock()
        self.endpoint_url = endpoint_url()

    @property
    def region(self) -> str:
        region = self._session.region_name
        if not region:
            raise CloudError(
                "no AWS region is set",
                hint='Set AWS_DEFAULT_REGION, or for the lab: eval "$(inference-lab lab env)".',
            )
        return region

    def client(
        self, service: str, *, read_timeout_s: float = 60, max_attempts: int = 8, region: str | None = None
    ) -> Any:
        """A boto3 client with adaptive retries. An Invoke wants `max_attempts=1`: a retry would be a second call."""
        config = botocore.config.Config(
            retries={"mode": "adaptive" if max_attempts > 1 else "standard", "total_max_attempts": max_attempts},
            read_timeout=read_timeout_s,
            max_pool_connections=64,
            # A bucket's name before a lab's address would be a host name that does not resolve everywhere.
            s3={"addressing_style": "path"} if self.endpoint_url else None,
        )
        # A session is not safe to make clients from in several threads; the clients themselves are.
        with cloud_errors(), self._making:
            return self._session.client(service, region_name=region or self.region, config=config)  # type: ignore[call-overload]  # a name of any service

    def credentials(self) -> CredentialFacts:
        """Return where the credentials come from and how long they last. Raises CloudError if there are none."""
        with cloud_errors():
            found = self._session.get_credentials()
            if found is None:
                raise NoCredentialsError
        source = str(found.method)
        ends = os.environ.get("AWS_CREDENTIAL_EXPIRATION", "") if source == "env" else ""
        try:
            ends_at = datetime.fromisoformat(ends) if ends else None
        except ValueError:
            ends_at = None
        return CredentialFacts(source, is_fixed=source in FIXED_SOURCES and bool(found.token), ends_at=ends_at)

    def endpoint_facts(self) -> EndpointFacts:
        """Ask where this run is measured: AWS says account and region, a lab says its host and limits too."""
        if self.endpoint_url:
            return lab_status(self.endpoint_url)
        with cloud_errors():
            identity = self.client("sts").get_caller_identity()
        return EndpointFacts(
            source="aws",
            endpoint_url=None,
            account_id=identity["Account"],
            region=self.region,
            host="",
            limits=LimitsInForce(driver="aws", cpu="aws", memory="aws", freezer="aws"),
        )


@contextmanager
def cloud_errors() -> Iterator[None]:
    """Turn botocore's exceptions into CloudError with what to do."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise CloudError(
            "no AWS credentials were found",
            hint='Configure them (`aws configure`, or AWS_PROFILE), or use the lab: eval "$(inference-lab lab env)".',
        ) from None
    except ProfileNotFound as error:
        raise CloudError(
            f"AWS client: {error}",
            hint="Set AWS_PROFILE to one that `aws configure list-profiles` names, or unset it. "
            'For the lab: eval "$(inference-lab lab env)".',
        ) from None
    except NoRegionError:
        raise CloudError("no AWS region is set", hint="Set AWS_DEFAULT_REGION.") from None
    except EndpointConnectionError as error:
        raise CloudError(f"no answer: {error}", hint=LAB_HINT if endpoint_url() else "Check the network.") from None
    except ClientError as error:
        detail = error.response.get("Error", {})
        code = detail.get("Code", "")
        hint = ""
        if code in {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}:
            hint = "The credentials are expired or wrong; sign in again."
        elif "AccessDenied" in code:
            hint = "The credentials lack this permission; docs/reference/aws.md lists what is needed."
        raise CloudError(f"{error.operation_name}: {code}: {detail.get('Message', '')}", hint=hint) from None
    except BotoCoreError as error:
        raise CloudError(f"AWS client: {error}", hint=LAB_HINT if endpoint_url() else "") from None


def lab_status(url: str) -> EndpointFacts:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}{LAB_STATUS_PATH}", timeout=60) as answer:  # noqa: S310 - the user's own setting
            return EndpointFacts.model_validate(strict_json.loads(answer.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CloudError(f"{ENDPOINT_VARIABLE} is {url}, and no lab answers there: {error}", hint=LAB_HINT) from None


@dataclass(frozen=True)
class Deployment:
    """The parts of a deployment that an experiment needs."""

    apis: Mapping[str, Api]  # by group of variants

    def api(self, variant: Variant) -> Api:
        """Return the REST API of a variant. Raises DeploymentError where its group has none."""
        if variant.group not in self.apis:
            raise DeploymentError(f"no REST API of {variant.group} is deployed", hint=DEPLOY_HINT)
        return self.apis[variant.group]

    def url(self, variant: Variant) -> str:
        """Return the address of a variant. Raises DeploymentError where its group has no API."""
        return f"{self.api(variant).url}{variant.route}"

    def access(self, variant: Variant) -> Access:
        """Return what a request to a variant has to show. Raises DeploymentError where its group has no API."""
        return self.api(variant).access

    def check_rate(self, variants: Iterable[Variant], peak_rps: float) -> None:
        """Raise DeploymentError where the gateway would throttle a load of this peak."""
        for api in {variant.group: self.api(variant) for variant in variants}.values():
            if peak_rps > api.rate_rps:
                raise DeploymentError(
                    f"the load reaches {peak_rps:g} requests/s, and the deployed endpoint allows {api.rate_rps:g}",
                    hint="Set this load in [experiments.load] of benchmark.toml, then run `cdk deploy`.",
                )


@dataclass(frozen=True)
class Api:
    """One REST API of the deployment."""

    id: str
    url: str  # base of its stage, without a slash at its end
    rate_rps: float  # of its stage, and of the usage plan of its key
    access: Access


def _described(cloud: Cloud, name: str) -> tuple[str | None, dict[str, str]]:
    """Return the status of a stack and its outputs by name; no status where it is not deployed. Raises CloudError.

    Asked by its name: without one, DescribeStacks needs the permission to list every stack of the account.
    """
    try:
        with cloud_errors():
            stacks = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except CloudError as error:
        if "does not exist" in error.message or "ValidationError" in error.message:
            return None, {}
        raise
    if not stacks or stacks[0]["StackStatus"] == "DELETE_COMPLETE":
        return None, {}
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
    return str(stacks[0]["StackStatus"]), outputs


def stack_status(cloud: Cloud, name: str) -> str | None:
    """Return the status of a stack, or None where it is not deployed. Raises CloudError."""
    return _described(cloud, name)[0]


def stack_outputs(cloud: Cloud, configuration: Configuration) -> tuple[str, dict[str, str]]:
    """Return the status of the stack and its outputs by name. Raises DeploymentError where there is no stack."""
    name = configuration.names.stack
    status, outputs = _described(cloud, name)
    if status is None:
        raise DeploymentError(
            f"stack {name} is not deployed at {cloud.endpoint_url or 'AWS ' + cloud.region}", hint=DEPLOY_HINT
        )
    return status, outputs


def find_deployment(cloud: Cloud, configuration: Configuration) -> Deployment:
    """Find the REST APIs by the outputs of the stack. Raises DeploymentError."""
    status, outputs = stack_outputs(cloud, configuration)
    apis: dict[str, Api] = {}
    for group in configuration.groups:
        values = [outputs.get(part(role, group), "") for role in API_OUTPUTS]
        if all(values):
            api_id, url, rate_rps = values
            if cloud.endpoint_url:  # a lab serves it below its own address: names under localhost do not always resolve
                url = f"{cloud.endpoint_url.rstrip('/')}{REST_API_PATH}{api_id}/{configuration.gateway.stage_name}"
            access = _access(cloud, outputs.get(part(KEY_OUTPUT, group)))
            apis[group] = Api(api_id, url.rstrip("/"), float(rate_rps), access)
    if not apis:
        wanted = " and ".join(part(role, configuration.groups[0]) for role in API_OUTPUTS)
        raise DeploymentError(
            f"stack {configuration.names.stack} is {status} and lacks outputs {wanted}", hint=DEPLOY_HINT
        )
    return Deployment(apis)


def _access(cloud: Cloud, key_id: str | None) -> Access:
    """Return the value of the API key, which is in no template and no output; without a key, a signature is due."""
    if key_id is None:
        return Access(region=cloud.region)
    with cloud_errors():
        return Access(key=str(cloud.client("apigateway").get_api_key(apiKey=key_id, includeValue=True)["value"]))
