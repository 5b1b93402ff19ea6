"""Fargate tasks that run Locust's master and workers next to what they load; deployed with `operations.load_tasks`.

The tasks have no public address: they reach the REST endpoint through a NAT gateway (docs/adr/0026). A task runs when
an experiment starts it, and ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from core.aws.load_tasks import CONTAINER, MASTER_PORT, OUTPUTS, RUNS, TASK_MEMORY_GB, TASK_VCPU
from core.configuration import Configuration
from core.paths import LOAD_DOCKERFILE, REPOSITORY
from core.variants import part
from stacks.acknowledgements import acknowledge
from stacks.endpoints import Endpoints
from stacks.functions import PLATFORMS, build_log_group

CPU_ARCHITECTURES: Final = {"x86_64": ecs.CpuArchitecture.X86_64, "arm64": ecs.CpuArchitecture.ARM64}
# The only directory that a task can write to; a mount keeps the mode that it has in the image (VOLUME).
RESULTS: Final = "/var/task/results"
USER: Final = "65534:65534"  # nobody
# After SIGTERM, a task has so long to bring its last records to the bucket. 120 s is the most that Fargate grants.
GRACE: Final = cdk.Duration.seconds(120)
KEPT: Final = cdk.Duration.days(7)  # what nobody fetched
SUBNET_MASK: Final = 20  # 4,091 addresses, one per task


class LoadTasks(cdk.NestedStack):
    """Network, cluster, task definition, and bucket of the load; `outputs` have the names of `core.aws.load_tasks`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        configuration: Configuration,
        endpoints: Mapping[str, Endpoints],
    ) -> None:
        """`endpoints` are what the tasks call, by group of variants."""
        # By parameters of our own: those that CDK makes have names that no acknowledgement can know.
        signed = {part("ApiId", group): one.api.rest_api_id for group, one in endpoints.items() if one.key is None}
        description = "Locust on Fargate, for loads beyond one machine"
        super().__init__(scope, id_, description=description, parameters=signed)
        self._configuration = configuration
        self._signed = [cdk.CfnParameter(self, name) for name in signed]
        self._keys = [one.key for one in endpoints.values() if one.key is not None]
        network = self._build_network()
        group = self._build_security_group(network)
        self._bucket = self._build_bucket()
        name = configuration.names.load_tasks
        cluster = ecs.CfnCluster(self, "Cluster", cluster_name=name)
        self._log_group = build_log_group(self, "Logs", configuration.names.load_log_group, configuration)
        task = self._build_task(name)
        values = (
            cluster.ref,
            task.task_definition_arn,
            network.private_subnets[0].subnet_id,
            group.security_group_id,
            self._bucket.bucket_name,
        )
        self.outputs: Mapping[str, str] = dict(zip(OUTPUTS, values, strict=True))
        acknowledge(
            self,
            {
                "AwsSolutions::AwsSolutions-VPC7": "Each connection is a call that the load's own records name.",
                "AwsSolutions::AwsSolutions-ECS4": "The records say what each worker did; Insights costs per metric.",
            },
        )

    def _build_network(self) -> ec2.Vpc:
        """Build one zone: the load needs no second one, and traffic between two costs money."""
        return ec2.Vpc(
            self,
            "Network",
            max_azs=1,
            nat_gateways=1,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Nat", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=28, map_public_ip_on_launch=False
                ),
                ec2.SubnetConfiguration(
                    name="Tasks", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=SUBNET_MASK
                ),
            ],
            # Images and records go to S3 without the fee of the NAT gateway.
            gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)},
            # Nothing uses the default group; a function to close it would be one more role.
            restrict_default_security_group=False,
        )

    def _build_security_group(self, network: ec2.Vpc) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self,
            "TasksGroup",
            vpc=network,
            description="Locust workers to their master, and HTTPS to the endpoint",
            allow_all_outbound=False,
        )
        group.connections.allow_internally(ec2.Port.tcp(MASTER_PORT), "Locust workers to their master")
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "HTTPS to the endpoint and to AWS")
        return group

    def _build_bucket(self) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Results",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[
                s3.LifecycleRule(expiration=KEPT, abort_incomplete_multipart_upload_after=cdk.Duration.days(1))
            ],
            # The experiment fetches and deletes what is in it, so that it is empty when the stack goes.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            bucket,
            {"AwsSolutions::AwsSolutions-S1": "Records lie here for the minutes until the experiment fetches them."},
        )
        return bucket

    def _build_task(self, name: str) -> ecs.FargateTaskDefinition:
        architecture = self._configuration.matrix.architectures[0]
        base_image = self._configuration.function.base_image
        image = ecr_assets.DockerImageAsset(
            self,
            "Image",
            directory=str(REPOSITORY),
            file=LOAD_DOCKERFILE.relative_to(REPOSITORY).as_posix(),
            build_args={"BASE_IMAGE": base_image} if base_image else None,
            platform=PLATFORMS[architecture],
            display_name="load",
        )
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=name,
            cpu=1024 * TASK_VCPU,
            memory_limit_mib=1024 * TASK_MEMORY_GB,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=CPU_ARCHITECTURES[architecture],
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            # Without the policies that the construct would add, which are wider than these.
            execution_role=self._build_execution_role(image).without_policy_updates(),
            task_role=self._build_task_role().without_policy_updates(),
            volumes=[ecs.Volume(name="results")],
        )
        container = task.add_container(
            CONTAINER,
            image=ecs.ContainerImage.from_docker_image_asset(image),
            entry_point=["python", "-m", "loadtests.task"],  # instead of the base image's, which starts a function
            working_directory=RESULTS,
            user=USER,
            readonly_root_filesystem=True,
            logging=ecs.LogDrivers.aws_logs(stream_prefix="load", log_group=self._log_group),
            stop_timeout=GRACE,
        )
        container.add_mount_points(ecs.MountPoint(container_path=RESULTS, source_volume="results", read_only=False))
        return task

    def _build_execution_role(self, image: ecr_assets.DockerImageAsset) -> iam.Role:
        """Build the role by which Fargate pulls the image and writes what a task prints."""
        pull = iam.PolicyStatement(
            actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            resources=[image.repository.repository_arn],
        )
        sign_in = iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
        write = iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[self._log_group.log_group_arn]
        )
        role = iam.Role(
            self,
            "ExecutionRole",
            assumed_by=self._tasks_of_this_account(),
            inline_policies={"PullAndLog": iam.PolicyDocument(statements=[pull, sign_in, write])},
        )
        acknowledge(
            role, {"AwsSolutions::AwsSolutions-IAM5[Resource::*]": "Signing in to ECR cannot be bounded to a resource."}
        )
        return role

    def _build_task_role(self) -> iam.Role:
        """Build the role of the tasks themselves: find and call the endpoints, and move files of runs."""
        files = iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject"], resources=[self._bucket.arn_for_objects(f"{RUNS}/*")]
        )
        name = self._configuration.names.stack
        stack = self.format_arn(service="cloudformation", resource="stack", resource_name=f"{name}/*")
        find = iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[stack])
        role = iam.Role(
            self,
            "TaskRole",
            assumed_by=self._tasks_of_this_account(),
            inline_policies={"Load": iam.PolicyDocument(statements=[files, find, *self._calls()])},
        )
        bucket = self.get_logical_id(cast("cdk.CfnElement", self._bucket.node.default_child))
        arn = f"arn:<AWS::Partition>:cloudformation:<AWS::Region>:<AWS::AccountId>:stack/{name}/*"
        rule = "AwsSolutions::AwsSolutions-IAM5"
        acknowledge(
            role,
            {
                f"{rule}[Resource::<{bucket}.Arn>/{RUNS}/*]": "Keys hold the ids of runs, which nobody knows yet.",
                f"{rule}[Resource::{arn}]": "CloudFormation makes up the end of a stack's ARN.",
                **{
                    f"{rule}[Resource::arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:"
                    f"<{api.node.id}>/{self._configuration.gateway.stage_name}/GET/*]": "Each route of this API."
                    for api in self._signed
                },
            },
        )
        return role

    def _calls(self) -> list[iam.PolicyStatement]:
        """Return the permissions to call the endpoints: to read their keys, or to sign."""
        stage_name = self._configuration.gateway.stage_name
        arns = {
            "apigateway:GET": [
                self.format_arn(service="apigateway", account="", resource="/apikeys", resource_name=key.key_id)
                for key in self._keys
            ],
            "execute-api:Invoke": [
                self.format_arn(
                    service="execute-api", resource=api.value_as_string, resource_name=f"{stage_name}/GET/*"
                )
                for api in self._signed
            ],
        }
        return [iam.PolicyStatement(actions=[action], resources=some) for action, some in arns.items() if some]

    def _tasks_of_this_account(self) -> iam.IPrincipal:
        """Return ECS, acting for tasks of this account alone."""
        return iam.ServicePrincipal(
            "ecs-tasks.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
        )
