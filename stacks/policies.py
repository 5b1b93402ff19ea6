"""IAM policies for an account that grants no more than is needed, as JSON files in `policies/`.

`python -m stacks.policies` writes them for the deployment of benchmark.toml. Actions and the resources that they can be
bounded to: https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from core import strict_json
from core.aws.load_tasks import RUNS
from core.configuration import read_configuration
from core.errors import run_command
from core.paths import REPOSITORY
from core.variants import DEPLOYMENT_TAG, Names

Policy = dict[str, Any]

POLICIES: Final = REPOSITORY / "policies"
MAX_CHARACTERS: Final = 6144  # of a managed policy, without white space
_PARTITION: Final = "aws"


def operator_policy(names: Names) -> Policy:
    """Return what experiments, Locust, `collect` and `cleanup` need once a stack is deployed."""
    return _policy(
        _allow(
            "Account",
            ["sts:GetCallerIdentity", "lambda:GetAccountSettings", "cloudwatch:GetMetricData", "pricing:GetProducts"],
            ["*"],
        ),
        _allow(
            "List",
            [
                "lambda:ListFunctions",
                "scheduler:ListSchedules",
                "scheduler:ListScheduleGroups",
                "logs:DescribeLogGroups",
                "cloudwatch:ListDashboards",
                "ec2:DescribeNatGateways",
            ],
            ["*"],
        ),
        _allow("Stack", ["cloudformation:DescribeStacks"], [_stacks(names)[0]]),
        _allow(
            "Functions",
            [
                "lambda:GetFunction",
                "lambda:GetFunctionConfiguration",
                "lambda:GetFunctionConcurrency",
                "lambda:GetProvisionedConcurrencyConfig",
                "lambda:InvokeFunction",
                "lambda:ListProvisionedConcurrencyConfigs",
                "lambda:ListVersionsByFunction",
                "lambda:PublishVersion",
                "lambda:UpdateAlias",
                "lambda:UpdateFunctionConfiguration",
            ],
            _functions(names),
        ),
        # With a qualifier: a run may delete the versions that it published, and no function.
        _allow("Versions", ["lambda:DeleteFunction"], [_arn("lambda", f"function:{names.prefix}-*:*")]),
        _allow("Logs", ["logs:DescribeLogStreams", "logs:FilterLogEvents"], _log_groups(names)),
        _allow("Gateway", ["apigateway:GET"], _gateway("restapis", "restapis/*", "apikeys")),
        # The value of a key is a secret, so that the keys of other teams stay out.
        _allow(
            "GatewayKey",
            ["apigateway:GET"],
            _gateway("apikeys/*"),
            {"StringEquals": {f"aws:ResourceTag/{DEPLOYMENT_TAG}": names.prefix}},
        ),
        _allow("Endpoints", ["execute-api:Invoke"], [_endpoints()]),
        _allow("Schedules", ["scheduler:GetSchedule", "scheduler:UpdateSchedule"], [_schedules(names)]),
        _allow("SchedulesRole", ["iam:PassRole"], [_roles(names)], _passed_to("scheduler.amazonaws.com")),
        _allow("Images", ["ecr:DescribeImages", "ecr:BatchDeleteImage"], [_arn("ecr", "repository/cdk-*-assets-*")]),
        *_load_statements(names),
    )


def _load_statements(names: Names) -> list[dict[str, Any]]:
    """Return what a load on Fargate tasks needs besides."""
    cluster = {"ArnLike": {"ecs:cluster": _arn("ecs", f"cluster/{names.load_tasks}")}}
    bucket = _load_bucket(names)
    return [
        _allow("LoadStart", ["ecs:RunTask"], [_arn("ecs", f"task-definition/{names.load_tasks}:*")], cluster),
        _allow("LoadTasks", ["ecs:DescribeTasks", "ecs:StopTask"], [_arn("ecs", f"task/{names.load_tasks}/*")]),
        # AWS checks a cluster's tasks as those of its container instances, which Fargate has none of.
        _allow("LoadList", ["ecs:ListTasks"], [_arn("ecs", f"container-instance/{names.load_tasks}/*")]),
        _allow("LoadRoles", ["iam:PassRole"], [_roles(names)], _passed_to("ecs-tasks.amazonaws.com")),
        _allow("LoadQuota", ["servicequotas:GetServiceQuota"], ["*"]),
        _allow("LoadBucket", ["s3:ListBucket"], [bucket]),
        _allow("LoadFiles", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], [f"{bucket}/{RUNS}/*"]),
    ]


def deploy_policy() -> Policy:
    """Return what `cdk deploy`, `diff` and `destroy` need: the roles of the bootstrap stack do the work."""
    return _policy(_allow("BootstrapRoles", ["sts:AssumeRole"], [_arn("iam", "role/cdk-*", region="")]))


def boundary_policy(names: Names) -> Policy:
    """Return the most that any role of the stack may do, whatever its own policies say."""
    return _policy(
        _allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], _log_groups(names)),
        _allow("Invoke", ["lambda:InvokeFunction"], _functions(names)),
        _allow("LoadLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], _log_groups(names, "ecs")),
        _allow("LoadFiles", ["s3:GetObject", "s3:PutObject"], [f"{_load_bucket(names)}/{RUNS}/*"]),
        _allow("LoadEndpoints", ["cloudformation:DescribeStacks"], [_stacks(names)[0]]),
        _allow("LoadKeys", ["apigateway:GET"], _gateway("apikeys/*")),
        _allow("LoadCalls", ["execute-api:Invoke"], [_endpoints()]),
        _allow(
            "LoadImage",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [_arn("ecr", "repository/cdk-*-assets-*")],
        ),
        _allow("LoadSignIn", ["ecr:GetAuthorizationToken"], ["*"]),
    )


def execution_policy(names: Names) -> Policy:
    """Return what CloudFormation needs to make, change and delete the stack, for a restricted bootstrap."""
    boundary = _arn("iam", f"policy/{boundary_name(names)}", region="")
    bounded = {"ArnLike": {"iam:PermissionsBoundary": boundary}}
    return _policy(
        _allow("Stacks", _all_of("cloudformation", _STACK_ACTIONS), _stacks(names)),
        _allow("Functions", _all_of("lambda", _FUNCTION_ACTIONS), _functions(names)),
        _allow("LogGroups", _all_of("logs", _LOG_ACTIONS), [*_log_groups(names), *_log_groups(names, "apigateway")]),
        _allow(
            "Gateway",
            _all_of("apigateway", ["DELETE", "GET", "PATCH", "POST", "PUT", "UpdateRestApiPolicy"]),
            _gateway("restapis", "restapis/*", "apikeys", "apikeys/*", "usageplans", "usageplans/*", "tags/*"),
        ),
        _allow(
            "Schedules",
            _all_of("scheduler", _SCHEDULE_ACTIONS),
            [_schedules(names), _arn("scheduler", f"schedule-group/{names.schedule_group}")],
        ),
        _allow(
            "Monitoring",
            _all_of("cloudwatch", _MONITORING_ACTIONS),
            [
                _arn("cloudwatch", f"alarm:{names.prefix}-*"),
                _arn("cloudwatch", f"dashboard/{names.dashboard}*", region=""),
            ],
        ),
        _allow("Topic", _all_of("sns", _TOPIC_ACTIONS), [_arn("sns", f"{names.prefix}-*")]),
        _allow(
            "Budget",
            _all_of("budgets", ["ListTagsForResource", "ModifyBudget", "TagResource", "UntagResource", "ViewBudget"]),
            [_arn("budgets", f"budget/{names.budget}", region="")],
        ),
        _allow("BoundedRoles", _all_of("iam", _BOUNDED_ROLE_ACTIONS), [_roles(names)], bounded),
        _allow("Roles", _all_of("iam", _ROLE_ACTIONS), [_roles(names)]),
        _allow(
            "PassRoles",
            ["iam:PassRole"],
            [_roles(names)],
            _passed_to("lambda.amazonaws.com", "scheduler.amazonaws.com"),
        ),
        _allow("BootstrapVersion", ["ssm:GetParameters"], [_arn("ssm", "parameter/cdk-bootstrap/*")]),
        _allow("BootstrapAssets", ["s3:GetObject"], [f"arn:{_PARTITION}:s3:::cdk-*-assets-*/*"]),
        _allow(
            "BootstrapImages",
            ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy"],
            [_arn("ecr", "repository/cdk-*-assets-*")],
        ),
        _allow("List", _UNBOUNDED_ACTIONS, ["*"]),
    )


def load_execution_policy(names: Names) -> Policy:
    """Return what CloudFormation needs besides for `operations.load_tasks`.

    Parts of a network have no names, so that what exists may be changed where it carries the deployment's tag.
    """
    tagged = {"StringEquals": {"aws:ResourceTag/deployment": names.prefix}}
    network = [_arn("ec2", f"{kind}/*") for kind in _NETWORK_PARTS]
    tasks = [_arn("ecs", f"cluster/{names.load_tasks}"), _arn("ecs", f"task-definition/{names.load_tasks}:*")]
    return _policy(
        _allow("Network", _all_of("ec2", _NETWORK_ACTIONS), network),
        _allow("OwnNetwork", _all_of("ec2", _OWN_NETWORK_ACTIONS), network, tagged),
        _allow("Bucket", _all_of("s3", _BUCKET_ACTIONS), [_load_bucket(names)]),
        _allow("Tasks", _all_of("ecs", _TASK_ACTIONS), tasks),
        _allow(
            "Unbounded",
            [*_all_of("ecs", _UNBOUNDED_TASK_ACTIONS), *_all_of("ec2", _UNBOUNDED_NETWORK_ACTIONS)],
            ["*"],
        ),
        _allow("LogGroups", _all_of("logs", _LOG_ACTIONS), _log_groups(names, "ecs")),
        _allow("PassRoles", ["iam:PassRole"], [_roles(names)], _passed_to("ecs-tasks.amazonaws.com")),
        _allow(
            "ServiceRole",
            ["iam:CreateServiceLinkedRole"],
            [_arn("iam", "role/aws-service-role/ecs.amazonaws.com/*", region="")],
        ),
    )


def scaling_policy(names: Names) -> Policy:
    """Return what CloudFormation needs besides where [provisioned] has target tracking or a schedule.

    A policy of its own, as a managed policy may have MAX_CHARACTERS.
    """
    return _policy(
        _allow(
            "Scaling",
            _all_of("application-autoscaling", _SCALING_ACTIONS),
            [_arn("application-autoscaling", "scalable-target/*")],
        ),
        _allow(
            "Alarms",
            _all_of("cloudwatch", ["DeleteAlarms", "DescribeAlarms", "PutMetricAlarm"]),
            [_arn("cloudwatch", f"alarm:TargetTracking-function:{names.prefix}-*")],
        ),
        _allow(
            "ServiceRole",
            ["iam:CreateServiceLinkedRole"],
            [_arn("iam", f"role/aws-service-role/{_SCALING_SERVICE}/*", region="")],
        ),
        _allow(
            "List",
            [
                "application-autoscaling:DescribeScalableTargets",
                "application-autoscaling:DescribeScalingPolicies",
                "application-autoscaling:DescribeScheduledActions",
                "cloudwatch:GetMetricData",
            ],
            ["*"],
        ),
    )


def boundary_name(names: Names) -> str:
    """Return the name under which the boundary is to be created."""
    return f"{names.prefix}-permissions-boundary"


def policies(names: Names) -> dict[str, Policy]:
    """Return every policy by the name of its file."""
    return {
        "operator": operator_policy(names),
        "deploy": deploy_policy(),
        "cloudformation-execution": execution_policy(names),
        "cloudformation-execution-load": load_execution_policy(names),
        "cloudformation-execution-scaling": scaling_policy(names),
        "permissions-boundary": boundary_policy(names),
    }


_STACK_ACTIONS: Final = (
    "CreateStack", "DeleteStack", "DescribeStacks", "GetStackPolicy", "GetTemplate", "SetStackPolicy", "UpdateStack",
    "UpdateTerminationProtection",
)  # fmt: skip
_LOG_ACTIONS: Final = (
    "AssociateKmsKey", "CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "DisassociateKmsKey",
    "GetDataProtectionPolicy", "ListTagsForResource", "PutRetentionPolicy", "TagResource", "UntagResource",
)  # fmt: skip
_SCHEDULE_ACTIONS: Final = (
    "CreateSchedule", "CreateScheduleGroup", "DeleteSchedule", "DeleteScheduleGroup", "GetSchedule", "GetScheduleGroup",
    "ListTagsForResource", "TagResource", "UntagResource", "UpdateSchedule",
)  # fmt: skip
_MONITORING_ACTIONS: Final = (
    "DeleteAlarms", "DeleteDashboards", "DescribeAlarms", "GetDashboard", "ListTagsForResource", "PutDashboard",
    "PutMetricAlarm", "TagResource", "UntagResource",
)  # fmt: skip
_SCALING_SERVICE: Final = "lambda.application-autoscaling.amazonaws.com"
_SCALING_ACTIONS: Final = (
    "DeleteScalingPolicy", "DeleteScheduledAction", "DeregisterScalableTarget", "ListTagsForResource",
    "PutScalingPolicy", "PutScheduledAction", "RegisterScalableTarget", "TagResource", "UntagResource",
)  # fmt: skip
_TOPIC_ACTIONS: Final = (
    "CreateTopic", "DeleteTopic", "GetDataProtectionPolicy", "GetTopicAttributes", "ListSubscriptionsByTopic",
    "ListTagsForResource", "SetTopicAttributes", "Subscribe", "TagResource", "UntagResource",
)  # fmt: skip
# A role that these act on has to carry the boundary, or to get it by the request.
_BOUNDED_ROLE_ACTIONS: Final = (
    "AttachRolePolicy", "CreateRole", "DeleteRolePolicy", "DetachRolePolicy", "PutRolePermissionsBoundary",
    "PutRolePolicy",
)  # fmt: skip
_ROLE_ACTIONS: Final = (
    "DeleteRole", "GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies", "TagRole", "UntagRole",
    "UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription",
)  # fmt: skip
_FUNCTION_ACTIONS: Final = (
    "AddPermission", "CreateAlias", "CreateFunction", "DeleteAlias", "DeleteFunction", "DeleteFunctionConcurrency",
    "DeleteFunctionEventInvokeConfig", "DeleteProvisionedConcurrencyConfig", "GetAlias", "GetFunction",
    "GetFunctionCodeSigningConfig", "GetFunctionConfiguration", "GetFunctionEventInvokeConfig",
    "GetFunctionRecursionConfig", "GetFunctionScalingConfig", "GetPolicy", "GetProvisionedConcurrencyConfig",
    "GetRuntimeManagementConfig", "ListAliases", "ListFunctionEventInvokeConfigs", "ListVersionsByFunction",
    "PublishVersion", "PutFunctionConcurrency", "PutFunctionEventInvokeConfig", "PutProvisionedConcurrencyConfig",
    "RemovePermission", "TagResource", "UntagResource", "UpdateAlias", "UpdateFunctionCode",
    "UpdateFunctionConfiguration", "UpdateFunctionEventInvokeConfig",
)  # fmt: skip
_NETWORK_ACTIONS: Final = (
    "AllocateAddress", "AssociateAddress", "AssociateNatGatewayAddress", "AssociateRouteTable",
    "AttachInternetGateway", "CreateInternetGateway", "CreateNatGateway", "CreateRoute", "CreateRouteTable",
    "CreateSecurityGroup", "CreateSubnet", "CreateTags", "CreateVpc", "CreateVpcEndpoint", "DeleteRoute", "DeleteTags",
    "DeleteVpcEndpoints", "DetachInternetGateway", "DisassociateAddress", "DisassociateNatGatewayAddress",
    "DisassociateRouteTable", "ModifyVpcEndpoint", "ReplaceRoute", "ReplaceRouteTableAssociation",
)  # fmt: skip
_UNBOUNDED_NETWORK_ACTIONS: Final = (
    "DescribeAddresses", "DescribeInstances", "DescribeInternetGateways", "DescribeNatGateways", "DescribeNetworkAcls",
    "DescribeNetworkInterfaces", "DescribeRouteTables", "DescribeSecurityGroupRules", "DescribeSecurityGroups",
    "DescribeSubnets", "DescribeVpcEndpoints", "DescribeVpcs", "DescribeVpnGateways",
)  # fmt: skip
_NETWORK_PARTS: Final = (
    "elastic-ip", "internet-gateway", "natgateway", "network-interface", "route-table", "security-group",
    "security-group-rule", "subnet", "vpc", "vpc-endpoint",
)  # fmt: skip
_OWN_NETWORK_ACTIONS: Final = (
    "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "DeleteInternetGateway", "DeleteNatGateway",
    "DeleteRouteTable", "DeleteSecurityGroup", "DeleteSubnet", "DeleteVpc", "DescribeVpcAttribute",
    "ModifySubnetAttribute", "ModifyVpcAttribute", "ReleaseAddress", "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress", "UpdateSecurityGroupRuleDescriptionsEgress",
    "UpdateSecurityGroupRuleDescriptionsIngress",
)  # fmt: skip
_BUCKET_ACTIONS: Final = (
    "CreateBucket", "DeleteBucket", "DeleteBucketPolicy", "GetAccelerateConfiguration", "GetAnalyticsConfiguration",
    "GetBucketAbac", "GetBucketAcl", "GetBucketCORS", "GetBucketLogging", "GetBucketMetadataTableConfiguration",
    "GetBucketNotification", "GetBucketObjectLockConfiguration", "GetBucketOwnershipControls", "GetBucketPolicy",
    "GetBucketPublicAccessBlock", "GetBucketTagging", "GetBucketVersioning", "GetBucketWebsite",
    "GetEncryptionConfiguration", "GetIntelligentTieringConfiguration", "GetInventoryConfiguration",
    "GetLifecycleConfiguration", "GetMetricsConfiguration", "GetReplicationConfiguration", "ListBucket",
    "ListTagsForResource", "PutBucketOwnershipControls", "PutBucketPolicy", "PutBucketPublicAccessBlock",
    "PutBucketTagging", "PutEncryptionConfiguration", "PutLifecycleConfiguration", "TagResource", "UntagResource",
)  # fmt: skip
_TASK_ACTIONS: Final = (
    "CreateCluster", "DeleteCluster", "DescribeClusters", "ListTagsForResource", "PutClusterCapacityProviders",
    "RegisterTaskDefinition", "TagResource", "UntagResource", "UpdateCluster", "UpdateClusterSettings",
)  # fmt: skip
_UNBOUNDED_TASK_ACTIONS: Final = (
    "DeregisterTaskDefinition", "DescribeTaskDefinition", "ListClusters", "ListTaskDefinitions",
)  # fmt: skip
# No resource can bound these.
_UNBOUNDED_ACTIONS: Final = (
    "cloudformation:ListStacks", "cloudwatch:ListDashboards", "iam:ListRoles", "lambda:ListFunctions",
    "logs:DescribeIndexPolicies", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
    "scheduler:ListScheduleGroups", "scheduler:ListSchedules", "sns:GetSubscriptionAttributes",
    "sns:ListSubscriptions", "sns:ListTopics", "sns:SetSubscriptionAttributes", "sns:Unsubscribe",
)  # fmt: skip


def _policy(*statements: Mapping[str, Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": list(resources)
    }  # fmt: skip
    return {**statement, "Condition": condition} if condition else statement


def _all_of(service: str, operations: Sequence[str]) -> list[str]:
    return [f"{service}:{operation}" for operation in operations]


def _arn(service: str, resource: str, *, region: str = "*", account: str = "*") -> str:
    return f"arn:{_PARTITION}:{service}:{region}:{account}:{resource}"


def _functions(names: Names) -> list[str]:
    return [_arn("lambda", f"function:{names.prefix}-*")]


def _log_groups(names: Names, service: str = "lambda") -> list[str]:
    group = _arn("logs", f"log-group:/aws/{service}/{names.prefix}-*")
    return [group, f"{group}:*"]


def _stacks(names: Names) -> list[str]:
    """Return the stack, and its parts, which CloudFormation names after it."""
    return [_arn("cloudformation", f"stack/{names.stack}/*"), _arn("cloudformation", f"stack/{names.stack}-*/*")]


def _schedules(names: Names) -> str:
    return _arn("scheduler", f"schedule/{names.schedule_group}/*")


def _roles(names: Names) -> str:
    """Return the roles of the parts: CloudFormation begins their names with the stack's."""
    return _arn("iam", f"role/{names.stack}-*", region="")


def _load_bucket(names: Names) -> str:
    """Return the bucket of the load tasks: CloudFormation begins its name with the stack's."""
    return f"arn:{_PARTITION}:s3:::{names.stack}-*"


def _gateway(*paths: str) -> list[str]:
    return [_arn("apigateway", f"/{path}", account="") for path in paths]


def _endpoints() -> str:
    """Return every GET of a REST API: its id is known after the deployment, and no condition can name its tags.

    Only methods that ask for an AWS identity look at this (`gateway.auth = "iam"`).
    """
    return _arn("execute-api", "*/*/GET/*")


def _passed_to(*services: str) -> dict[str, Any]:
    return {"StringEquals": {"iam:PassedToService": list(services)}}


def main() -> None:
    """Write every policy for the deployment of benchmark.toml."""
    POLICIES.mkdir(exist_ok=True)
    for name, policy in policies(read_configuration().names).items():
        path = POLICIES / f"{name}.json"
        path.write_text(text_of(policy), encoding="utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def text_of(policy: Policy) -> str:
    """Return the text of a policy's file."""
    return strict_json.dumps(policy, indent=2) + "\n"


if __name__ == "__main__":
    run_command("stacks.policies", main)
