"""One container-image function per variant, each with its own log group."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from core.configuration import Configuration
from core.errors import ConfigurationError
from core.paths import REPOSITORY
from core.variants import Variant, part
from stacks.acknowledgements import NO_TRACING, acknowledge

ARCHITECTURES: Final = {"x86_64": lambda_.Architecture.X86_64, "arm64": lambda_.Architecture.ARM_64}
PLATFORMS: Final = {"x86_64": ecr_assets.Platform.LINUX_AMD64, "arm64": ecr_assets.Platform.LINUX_ARM64}

# A call from a schedule that could not start within this time is not the sample that was asked for.
# 60 s is the least Lambda allows.
MAX_EVENT_AGE: Final = cdk.Duration.seconds(60)
# An asynchronous call that is tried again would be a second sample under the first one's name.
ONE_ATTEMPT: Final = MappingProxyType[str, Any]({"retry_attempts": 0, "max_event_age": MAX_EVENT_AGE})


class Functions(cdk.NestedStack):
    """The functions of one group: as many as it has variants, from as many images as it has models."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration, group: str) -> None:
        super().__init__(scope, id_, description="Image classification functions, one per model and memory size")
        self._configuration = configuration
        role = self._build_role()
        variants = [variant for variant in configuration.variants if variant.group == group]
        images = {variant.model: self._describe_image(variant) for variant in variants}
        self.by_variant: dict[Variant, lambda_.IFunction] = {
            variant: self._build_called(variant, code=images[variant.model], role=role) for variant in variants
        }
        no_retry = "A call that failed is a result: the client's record and the log hold it, and nobody replays it."
        acknowledge(
            self,
            {
                "Serverless::Serverless-LambdaDLQ": no_retry,
                "Serverless::Serverless-LambdaAsyncFailureDestination": no_retry,
                "Serverless::Serverless-LambdaTracing": NO_TRACING,
            },
        )

    def _build_role(self) -> iam.Role:
        """One role for all: every function may do the same, and that is to write to the log groups below."""
        log_groups = self.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{self._configuration.names.log_groups}*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        write_logs = iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[f"{log_groups}:*"]
        )
        role = iam.Role(
            self,
            "FunctionRole",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"WriteLogs": iam.PolicyDocument(statements=[write_logs])},
        )
        groups = self._configuration.names.log_groups
        wildcard = f"arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:{groups}*:*"
        reason = "Log streams have names of Lambda's making, and one role serves every function (docs/adr/0023)."
        acknowledge(role, {f"AwsSolutions::AwsSolutions-IAM5[Resource::{wildcard}]": reason})
        return role

    def _describe_image(self, variant: Variant) -> lambda_.DockerImageCode:
        table = self._configuration.function
        return lambda_.DockerImageCode.from_image_asset(
            str(_image_directory(table.directory)),
            build_args={
                **({"BASE_IMAGE": table.base_image} if table.base_image else {}),
                "RECORD": self._configuration.model(variant.model).build_record(variant.model),
                "ENGINE": variant.engine,
                "WEIGHTS": self._configuration.matrix.weights,
            },
            platform=PLATFORMS[variant.architecture],
            display_name=f"{variant.model}-{variant.group}",
        )

    def _build_called(self, variant: Variant, *, code: lambda_.DockerImageCode, role: iam.Role) -> lambda_.IFunction:
        """Build what callers name: the function, or an alias of its published version."""
        function = self._build_function(variant, code=code, role=role)
        if variant.alias is None:
            return function
        cdk.Annotations.of(function).acknowledge_warning(
            "@aws-cdk/aws-lambda:snapStartRequirePublish", "The alias below names a published version."
        )
        alias = lambda_.Alias(
            self,
            f"{construct_id(variant)}Alias",
            alias_name=variant.alias,
            version=function.current_version,
            provisioned_concurrent_executions=self._configuration.provisioned_environments(variant) or None,
            **ONE_ATTEMPT,
        )
        if variant.start == "provisioned" and self._configuration.provisioned.is_scaled:
            self._scale(alias)
        return alias

    def _scale(self, alias: lambda_.Alias) -> None:
        """Let Application Auto Scaling change how many environments are kept, by their use or by the clock."""
        table = self._configuration.provisioned
        most = table.track_up_to or table.concurrency
        target = alias.add_auto_scaling(min_capacity=table.concurrency, max_capacity=most)
        if table.track_up_to:
            target.scale_on_utilization(utilization_target=table.target_utilization)
        for number, (expression, concurrency) in enumerate(table.schedule, start=1):
            target.scale_on_schedule(
                f"At{number}",
                schedule=autoscaling.Schedule.expression(expression),
                min_capacity=concurrency,
                max_capacity=max(concurrency, table.track_up_to),
            )

    def _build_function(
        self, variant: Variant, *, code: lambda_.DockerImageCode, role: iam.Role
    ) -> lambda_.DockerImageFunction:
        names = self._configuration.names
        return lambda_.DockerImageFunction(
            self,
            construct_id(variant),
            function_name=names.function(variant),
            description=variant.display_name,
            code=code,
            architecture=ARCHITECTURES[variant.architecture],
            memory_size=variant.memory_mb,
            timeout=cdk.Duration.seconds(self._configuration.function.timeout_s),
            role=role,
            reserved_concurrent_executions=self._configuration.function.reserved_concurrency or None,
            log_group=build_log_group(
                self, f"{construct_id(variant)}Logs", names.log_group(variant), self._configuration
            ),
            logging_format=lambda_.LoggingFormat.JSON,
            # INFO brings platform.start and platform.report, and platform.initReport of an init that failed.
            # Init's duration is in the report, so DEBUG would add cost and no evidence.
            system_log_level_v2=lambda_.SystemLogLevel.INFO,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            **(ONE_ATTEMPT if variant.alias is None else {}),
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if variant.start == "snapstart" else None,
            # A version that is kept would keep its snapshot, which costs money for as long as the version exists.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.DESTROY),
        )


def _image_directory(directory: str) -> Path:
    """Resolve the build context against the repository's top. Raises ConfigurationError where it has no Dockerfile."""
    path = REPOSITORY / directory
    if not (path / "Dockerfile").is_file():
        raise ConfigurationError(
            f"key `function.directory` is {directory!r}; {path} holds no Dockerfile",
            hint="Name the Docker build context of the function, by default functions/inference.",
        )
    return path


def construct_id(variant: Variant) -> str:
    """Return the id of a variant's constructs in every part."""
    return f"{part(variant.model.capitalize(), variant.group)}{variant.memory_mb}"


def build_log_group(scope: Construct, id_: str, name: str, configuration: Configuration) -> logs.LogGroup:
    """Build a log group with the retention and the key of [function]."""
    key_arn = configuration.function.log_key_arn
    group = logs.LogGroup(
        scope,
        id_,
        log_group_name=name,
        encryption_key=kms.Key.from_key_arn(scope, f"{id_}Key", key_arn) if key_arn else None,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    # `LogGroup` takes a member of an enumeration; the resource below it takes days.
    cast("logs.CfnLogGroup", group.node.default_child).retention_in_days = configuration.function.log_retention_days
    return group
