"""The IAM policies: as their files say, right, small, and enough for the templates."""

import fnmatch
import json
from importlib.resources import files

import botocore.session
import parliament
import pytest

from core.variants import Names
from stacks.policies import MAX_CHARACTERS, POLICIES, boundary_name, policies, text_of
from tests.stacks.conftest import application, build
from tests.stacks.test_security import EVERY_START

# Permissions of a type's handlers for what no template of ours has. Source of the rest: the types' own schemas.
NOT_NEEDED = {
    "AWS::EC2::EIP": {"ec2:AcceptAddressTransfer"},
    "AWS::EC2::NatGateway": {"ec2:*PrivateNatGatewayAddress"},
    "AWS::EC2::Subnet": {"ec2:*SubnetCidrBlock"},  # IPv6
    "AWS::EC2::VPC": {"ec2:*VpcEncryptionControl*", "ec2:ModifyVpcTenancy"},
    "AWS::EC2::VPCEndpoint": {"vpc-lattice:*", "vpce:AllowMultiRegion"},
    "AWS::EC2::VPCGatewayAttachment": {"ec2:*VpnGateway"},
    "AWS::ECS::Cluster": {"ecs:PutAccountSetting*", "kms:DescribeKey"},
    "AWS::S3::Bucket": {
        "s3tables:*", "s3:*BucketMetadata*", "s3:DeleteObject", "s3:PutObjectAcl", "s3:PutObjectLockConfiguration",
        "s3:ListAllMyBuckets", "s3:DeleteBucket?*", "s3:Put*",  # of what the bucket has not
    },
    "AWS::S3::BucketPolicy": {"s3:ListAllMyBuckets"},
    "AWS::ApiGateway::Method": {"iam:PassRole"},  # an integration's credentials
    "AWS::ApiGateway::RestApi": {"iam:PassRole"},  # as above
    "AWS::Budgets::Budget": {"billing:GetBillingViewData"},  # of a billing view other than the account's
    "AWS::CloudFormation::Stack": {"iam:PassRole"},  # a role of a part's own
    "AWS::IAM::Role": {"iam:DeleteRolePermissionsBoundary"},  # it would free a role of the boundary
    "AWS::Lambda::Alias": {"codedeploy:*"},
    "AWS::Lambda::Version": {
        "lambda:PutFunctionScalingConfig", "lambda:PutRuntimeManagementConfig",
    },
    "AWS::Lambda::Function": {
        "ec2:*", "elasticfilesystem:*", "s3files:*",  # networks and file systems
        "kms:*",  # a key for the environment variables
        "s3:*", "lambda:GetLayerVersion", "lambda:AssociateRuntimeAlias", "lambda:PutRuntimeManagementConfig",  # zip
        "lambda:*CodeSigningConfig",
        "lambda:PutFunctionRecursionConfig",
        "lambda:PassCapacityProvider", "lambda:PutFunctionScalingConfig", "lambda:PublishVersion",
    },
    "AWS::Logs::LogGroup": {
        "firehose:*", "s3:*", "logs:CreateLogDelivery", "logs:*ResourcePolicy", "logs:*IndexPolicy",
        "logs:*DataProtectionPolicy", "logs:PutBearerTokenAuthentication", "logs:PutLogGroupDeletionProtection",
    },
    "AWS::SNS::Subscription": {"iam:*"},  # Firehose
    "AWS::SNS::Topic": {"iam:*", "sns:PutDataProtectionPolicy", "sns:Unsubscribe"},
}  # fmt: skip
GENERATED = policies(Names("inference-lab"))


@pytest.mark.parametrize("name", GENERATED)
def test_the_file_of_a_policy_is_what_make_policies_writes(name):
    assert (POLICIES / f"{name}.json").read_text(encoding="utf-8") == text_of(GENERATED[name])


def test_no_other_file_is_beside_them():
    assert {path.stem for path in POLICIES.iterdir()} == set(GENERATED)


@pytest.mark.parametrize("name", GENERATED)
def test_parliament_finds_nothing(name):
    findings = parliament.analyze_policy_string(text_of(GENERATED[name])).findings
    assert [finding for finding in findings if not is_newer_than_parliament(finding)] == []


def is_newer_than_parliament(finding):
    """Whether it misses an operation that AWS's own model has: its list of actions is older than botocore."""
    if finding.issue != "UNKNOWN_ACTION":
        return False
    service, _, operation = finding.detail.removeprefix("Unknown action ").partition(":")
    session = botocore.session.get_session()
    return operation in session.get_service_model(service).operation_names


@pytest.mark.parametrize("name", GENERATED)
def test_a_policy_fits_into_a_managed_policy(name):
    assert len(json.dumps(GENERATED[name], separators=(",", ":"))) <= MAX_CHARACTERS


def handler_permissions(types):
    """Permissions that CloudFormation's handlers of these types ask for, by type, as their schemas say."""
    found = {}
    for file in files("cfnlint").joinpath("data", "schemas", "resources").iterdir():
        if file.name.endswith(".json"):
            schema = json.loads(file.read_text(encoding="utf-8"))
            if schema.get("typeName") in types:
                handlers = schema.get("handlers", {}).values()
                found[schema["typeName"]] = {one for handler in handlers for one in handler.get("permissions", [])}
    return found


@pytest.mark.slow
def test_cloudformation_may_make_change_and_delete_every_resource_of_the_largest_deployment(configure, tmp_path):
    build(application(tmp_path), configure(**EVERY_START)).node.root.synth()
    templates = [json.loads(path.read_text()) for path in tmp_path.glob("*.template.json")]
    types = {resource["Type"] for template in templates for resource in template["Resources"].values()}
    allowed = {
        one
        for name in ("cloudformation-execution", "cloudformation-execution-load", "cloudformation-execution-scaling")
        for statement in GENERATED[name]["Statement"]
        for one in statement["Action"]
    }
    needed = handler_permissions(types)
    assert set(needed) == types
    missing = {
        (kind, permission)
        for kind, permissions in needed.items()
        for permission in permissions - allowed
        if not any(fnmatch.fnmatchcase(permission, pattern) for pattern in NOT_NEEDED.get(kind, ()))
    }
    assert missing == set()


@pytest.mark.slow
def test_the_boundary_covers_what_the_roles_of_the_stack_may_do_and_each_carries_it(configure, tmp_path):
    name = boundary_name(Names("inference-lab"))
    for auth in ("api_key", "iam"):
        configuration = configure(permissions_boundary=f'"{name}"', load_tasks="true", auth=f'"{auth}"')
        build(application(tmp_path / auth), configuration).node.root.synth()
    roles = [
        resource["Properties"]
        for path in tmp_path.glob("*/*.template.json")
        for resource in json.loads(path.read_text())["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    ]
    actions = {
        one
        for role in roles
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for one in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert len(roles) == 2 * 4
    assert actions == {
        one for statement in GENERATED["permissions-boundary"]["Statement"] for one in statement["Action"]
    }
    assert all(json.dumps(role["PermissionsBoundary"]).endswith(f':policy/{name}"]]}}') for role in roles)
