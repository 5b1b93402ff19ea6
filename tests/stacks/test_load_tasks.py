"""The part of the stack that runs a load on Fargate."""

import ast
import json
import re
import sys
from importlib import metadata

import pytest

from core.aws.load_tasks import CONTAINER, MASTER_PORT, OUTPUTS, TASK_MEMORY_GB, TASK_VCPU, workers_for
from core.money.charges import SECONDS_PER_MONTH, load_tasks_usd, network_rest_usd, network_traffic_usd
from core.money.prices import read_prices
from core.paths import REPOSITORY
from experiments.checks.spend import TASK_START_S
from tests.stacks.conftest import application, build, template_of
from tests.stacks.test_stacks import resources


@pytest.fixture(scope="module")
def stack(configure):
    return build(application(), configure("brief", load_tasks="true"))


@pytest.fixture(scope="module")
def template(stack):
    return template_of(stack.node.find_child("LoadTasks"))


def test_a_default_deployment_has_no_load_tasks(configuration, templates):
    assert not configuration.operations.load_tasks
    root = templates["Root"].to_json()
    assert not [name for name in root["Resources"] if name.startswith("LoadTasks")]
    assert not set(OUTPUTS) & set(root["Outputs"])


def test_the_root_stack_says_where_tasks_run(stack):
    assert set(OUTPUTS) <= set(template_of(stack).to_json()["Outputs"])


def test_no_subnet_gives_out_public_addresses_and_tasks_call_through_the_nat_gateway(template):
    assert {subnet["MapPublicIpOnLaunch"] for subnet in resources(template, "AWS::EC2::Subnet")} == {False}
    template.resource_count_is("AWS::EC2::NatGateway", 1)
    assert sum("NatGatewayId" in route for route in resources(template, "AWS::EC2::Route")) == 1


def test_tasks_take_connections_of_each_other_alone(template):
    (group,) = resources(template, "AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group
    (ingress,) = resources(template, "AWS::EC2::SecurityGroupIngress")
    assert (ingress["FromPort"], ingress["ToPort"]) == (MASTER_PORT, MASTER_PORT)
    assert ingress["SourceSecurityGroupId"] == ingress["GroupId"]
    (egress,) = resources(template, "AWS::EC2::SecurityGroupEgress")
    assert egress["DestinationSecurityGroupId"] == egress["GroupId"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [(443, 443)]


def test_the_bucket_is_closed_encrypted_and_forgets(template):
    (bucket,) = resources(template, "AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]
    assert any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
    template.has_resource("AWS::S3::Bucket", {"DeletionPolicy": "Delete"})


def test_a_container_runs_without_root_and_writes_to_its_results_alone(template):
    (task,) = resources(template, "AWS::ECS::TaskDefinition")
    assert (task["Cpu"], task["Memory"]) == (str(1024 * TASK_VCPU), str(1024 * TASK_MEMORY_GB))
    (container,) = task["ContainerDefinitions"]
    assert container["Name"] == CONTAINER
    assert container["ReadonlyRootFilesystem"] is True
    assert not container["User"].startswith("0")
    assert [mount["ContainerPath"] for mount in container["MountPoints"]] == ["/var/task/results"]
    assert container["EntryPoint"] == ["python", "-m", "loadtests.task"]
    assert "Environment" not in container  # the API key least of all


def test_the_image_has_the_functions_base_and_the_pins_of_this_repository():
    bases = {
        re.search(r"^ARG BASE_IMAGE=(\S+@sha256:[0-9a-f]{64})$", path.read_text(), re.MULTILINE)[1]
        for path in (REPOSITORY / "loadtests/Dockerfile", REPOSITORY / "functions/inference/Dockerfile")
    }
    assert len(bases) == 1
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE))
    text = (REPOSITORY / "loadtests/requirements.txt").read_text()
    assert "://" not in text
    packages = re.findall(r"^([a-z0-9-]+)==(\S+).*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(packages) == text.count("==") - text.count(" == ")
    assert {"boto3", "locust", "pydantic"} <= {name for name, _ in packages}
    assert [(name, version) for name, version in packages if locked.get(name, version) != version] == []
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / "loadtests/requirements.in").read_text(), re.MULTILINE)
    assert set(pins) <= set(packages)


def test_every_package_that_a_task_imports_is_pinned_for_its_image():
    """A task runs in this repository's environment here, which has more."""
    packages, pins = metadata.packages_distributions(), (REPOSITORY / "loadtests/requirements.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", pins, re.MULTILINE))
    left, seen, missing = ["loadtests.task", "loadtests.locustfile"], set(), set()
    while left:
        module = left.pop()
        path = REPOSITORY / f"{module.replace('.', '/')}.py"
        if module in seen or not path.exists():
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            left += [name for name in names if name.startswith(("core.", "loadtests."))]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"core", "loadtests"}:
                if not {name.lower() for name in packages.get(top, [top])} & pinned:
                    missing.add((module, top))
    assert len(seen) > 20
    assert missing == set()


def test_the_image_holds_what_the_load_test_imports_and_nothing_else(tmp_path, configure):
    lab = application(tmp_path)
    build(lab, configure("brief", load_tasks="true"))
    lab.synth()
    (assets,) = tmp_path.glob("inference-lab.assets.json")
    (image,) = [
        image
        for image in json.loads(assets.read_text())["dockerImages"].values()
        if image["source"].get("dockerFile") == "loadtests/Dockerfile"
    ]
    context = tmp_path / image["source"]["directory"]
    found = {path.relative_to(context).as_posix() for path in context.rglob("*") if path.is_file()}
    rooms = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("core", "loadtests")
        for path in (REPOSITORY / room).rglob("*.py")
    }
    assert found == rooms | {
        ".dockerignore",
        "core/prices.toml",
        "loadtests/Dockerfile",
        "loadtests/requirements.txt",
    }


def test_the_table_of_the_page_follows_from_rate_and_prices():
    text = (REPOSITORY / "docs/how-to/load-from-fargate.md").read_text(encoding="utf-8")
    seconds, start_s, call_ms, record_bytes = 300, TASK_START_S, 100, 1_080
    prices = read_prices()
    rows = [
        [float(cell.replace(",", "")) for cell in line.strip("| \n").split("|")]
        for line in text.splitlines()
        if re.fullmatch(r"\|( *[\d,.]+ *\|){7}", line)
    ]
    assert [row[0] for row in rows] == [400, 1_000, 10_000, 100_000]
    for rps, *found in rows:
        calls, workers = rps * seconds, workers_for(rps)
        assert found == [
            workers,
            round(load_tasks_usd(workers + 1, seconds + start_s, "x86_64", prices), 2),
            round(network_traffic_usd(calls, prices), 2),
            round(calls * prices.call_usd(1769, call_ms, "x86_64", through_gateway=True), 2),
            rps * call_ms / 1000,
            round(calls * record_bytes / 1e9, 2),
        ]
    rest_usd = network_rest_usd(SECONDS_PER_MONTH / 3600, prices)
    for page in ("docs/how-to/load-from-fargate.md", "docs/reference/configuration.md", "benchmark.toml"):
        assert f"{rest_usd:.2f} USD per month" in (REPOSITORY / page).read_text(encoding="utf-8")


def test_the_bootstrap_template_of_the_pinned_command_line_has_the_settings_that_the_page_names():
    template = REPOSITORY / "node_modules/aws-cdk/lib/api/bootstrap/bootstrap-template.yaml"
    text = template.read_text(encoding="utf-8")
    repository = text[text.index("  ContainerAssetsRepository:\n") :].partition("\n  FilePublishingRole:")[0]
    assert "ImageTagMutability: IMMUTABLE" in repository
    assert "ImageScanningConfiguration" not in repository
    page = (REPOSITORY / "docs/reference/aws.md").read_text(encoding="utf-8")
    assert "put-image-scanning-configuration --image-scanning-configuration scanOnPush=true" in page
