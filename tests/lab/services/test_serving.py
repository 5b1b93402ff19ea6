"""`inference-lab lab`: starting, stopping, who it answers, what it says when it cannot."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.paths import REPOSITORY
from lab.cli import client_environment, main
from lab.http.host_header import is_our_host
from tests.commands import run_here
from tests.lab_support import Lab, refusing_port, running_lab, start_lab

ROLE = "arn:aws:iam::123456789012:role/r"


def make_role(lab: Lab) -> None:
    """CreateFunction wants a role that is there."""
    iam = lab.client("iam")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")


def run_lab(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def request(
    lab: Lab, method: str = "GET", path: str = "/", *, body: bytes = b"", host: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """A plain HTTP request; header names with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=600)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body, headers={"Host": host or f"localhost:{lab.port}", **named})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, data


def test_a_lab_says_ready_once_obeys_its_options_and_stops_cleanly(tmp_path: Path) -> None:
    options = ["--time-scale", "60", "--idle-minutes", "2", "--account-concurrency", "42"]
    lab = start_lab(state=tmp_path, arguments=options)
    facts = lab.status()
    listed = run_here("lab", main, "urls", "--port", str(lab.port))
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "no REST API is deployed" in listed.stderr
    limits_concurrency(lab, 42)
    assert lab.stop(signal.SIGINT) == 0
    assert lab.process.stdout is not None
    assert lab.process.stdout.read() == ""  # one line on standard output, and that was read at the start
    assert facts["source"] == "lab"
    assert facts["endpoint_url"] == f"http://localhost:{lab.port}"
    assert facts["time_scale"] == 60
    assert facts["idle_s"] == pytest.approx(2.0)
    assert {"proactive initialization", "image fetch"} <= set(facts["not_modelled"])
    assert not any("Traceback" in line for line in lab.log)


def limits_concurrency(lab: Lab, account: int) -> None:
    """Check the account's limit, and what a function reserves of it."""
    client = lab.client("lambda")
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == account
    make_role(lab)
    uri = lab.push_image()
    client.create_function(FunctionName="f", PackageType="Image", Code={"ImageUri": uri}, Role=ROLE)
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)
    assert client.get_function_concurrency(FunctionName="f")["ReservedConcurrentExecutions"] == 2
    assert client.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 2}
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == account - 2
    client.delete_function_concurrency(FunctionName="f")
    assert "Concurrency" not in client.get_function(FunctionName="f")


def test_a_taken_port_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run_lab("serve", "--port", str(port), "--state", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_lab_does_not_take_the_state_of_the_first(shared_lab: Lab) -> None:
    ended = run_lab("serve", "--port", "0", "--state", str(shared_lab.state))
    assert ended.returncode == 1
    assert f"another lab holds {shared_lab.state}" in ended.stderr
    assert str(shared_lab.process.pid) in ended.stderr
    assert shared_lab.status()["source"] == "lab"


def test_a_state_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_lab("serve", "--port", "0", "--state", str(tmp_path / "file" / "state"))
    assert ended.returncode == 1
    assert "state directory" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("damage", ["no database", "another version"])
def test_a_damaged_store_is_said_and_left_alone(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "logs.sqlite"
    if damage == "no database":
        file.write_bytes(b"this is no database" * 100)
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    ended = run_lab("serve", "--port", "0", "--state", str(tmp_path))
    assert ended.returncode == 1
    assert str(file) in ended.stderr
    assert "--state" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert file.read_bytes()[:19] == before[:19]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--time-scale", "0"], "--time-scale"),
        (["--port", "70000"], "--port"),
        (["--idle-minutes", "0"], "--idle-minutes"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_name(arguments: list[str], word: str, tmp_path: Path) -> None:
    ended = run_here("lab", main, "serve", "--state", str(tmp_path), *arguments)
    assert ended.returncode == 1
    assert word in ended.stderr
    assert "expected" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["serve", "--port", "abc"], "--port: invalid int value: 'abc'"),
        (["serve", "--state", ""], "--state: the path is empty"),
        (["serve", "--driver", "rocket"], "'rocket'"),
        (["serve", "--profile", "nowhere"], "profile 'nowhere'"),
        (["env", "--port", "99999"], "--port is 99999; expected 0 to 65535"),
        (["sreve"], "'sreve'"),
        ([], "serve,env,urls,doctor,docker"),
    ],
)
def test_a_wrong_command_line_is_an_error_that_names_it_and_not_a_failed_check(arguments: list[str], word: str) -> None:
    ended = run_here("lab", main, *arguments)
    assert ended.returncode == 1
    assert word in ended.stderr
    assert ended.stdout == ""


def count_of_metric(lab: Lab, around_ms: int) -> list[float]:
    stat = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 3600, "Stat": "SampleCount"}
    answer = lab.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "q", "MetricStat": stat}],
        StartTime=around_ms / 1000 - 7200,
        EndTime=around_ms / 1000 + 7200,
    )
    return answer["MetricDataResults"][0]["Values"]


def test_logs_written_before_a_kill_are_read_after_a_restart_and_a_new_deployment(tmp_path: Path) -> None:
    group = "/aws/lambda/f"
    now_ms = int(time.time() * 1000)
    lab = start_lab(state=tmp_path)
    logs = lab.client("logs")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    logs.put_log_events(
        logGroupName=group, logStreamName="s", logEvents=[{"timestamp": now_ms, "message": "before the kill"}]
    )
    lab.client("cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Value": 1}])
    # A read waits for what was written: from here on it is on disk.
    logs.filter_log_events(logGroupName=group)
    assert count_of_metric(lab, now_ms) == [1]
    lab.process.kill()
    lab.process.wait()

    with running_lab(state=tmp_path) as again:
        logs = again.client("logs")
        logs.put_retention_policy(logGroupName=group, retentionInDays=7)
        assert [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]] == [
            "before the kill"
        ]
        assert count_of_metric(again, now_ms) == [1]
        logs.create_log_group(logGroupName=group)  # what the next deployment does
        assert [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]] == [
            "before the kill"
        ]
        logs.delete_log_group(logGroupName=group)
        logs.create_log_group(logGroupName=group)
        assert logs.filter_log_events(logGroupName=group)["events"] == []
        assert again.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost:4566", True),
        ("LOCALHOST:4566", True),
        ("127.0.0.1:4566", True),
        ("[::1]:4566", True),
        ("bucket.localhost:4566", True),
        ("abc.execute-api.us-east-1.localhost:4566", True),
        ("localhost", True),
        ("abc.execute-api.localhost", True),
        ("localhost:4567", False),
        ("abc.execute-api.localhost:80", False),
        ("evil.example:4566", False),
        ("localhost.evil.example:4566", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example:4566", False),
        ("169.254.169.254:4566", False),
        (".localhost:4566", False),
        ("localhost:" + "4566" * 1250, False),
        ("localhost:" + "0" * 5000 + "4566", False),
        ("localhost:٤٥٦٦", False),
        ("localhost:\uff14\uff15\uff16\uff16", False),
        ("localhost:4566²", False),
        ("localhost:4566\n", False),
        ("localho\u017ft:4566", False),
        ("buc\u212aet.localhost", False),
        ("", False),
    ],
)
def test_only_loopback_names_with_our_port_or_none_are_ours(host: str, *, ours: bool) -> None:
    assert is_our_host(host, 4566) is ours


@given(st.text(max_size=40))
def test_no_other_text_passes_for_a_host(host: str) -> None:
    if is_our_host(host, 4566):
        name = host.lower().removesuffix(":4566")
        assert name in {"localhost", "127.0.0.1", "[::1]"} or name.endswith(".localhost")


def test_a_foreign_host_is_turned_away_from_every_path(shared_lab: Lab) -> None:
    for path in ("/", "/_lab/status", "/_aws/execute-api/x/v1/", "/2015-03-31/functions/f/invocations"):
        status, _, body = request(shared_lab, "POST", path, host=f"evil.example:{shared_lab.port}")
        assert status == 421, path
        assert b"evil.example" in body


def deploy_api(lab: Lab, name: str, *stages: str) -> str:
    """A REST API whose root answers its own id and stage; return the id."""
    client = lab.client("apigateway")
    api = client.create_rest_api(name=name)
    method = {"restApiId": api["id"], "resourceId": api["rootResourceId"], "httpMethod": "GET"}
    client.put_method(**method, authorizationType="NONE")
    uri = (
        "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
        "arn:aws:lambda:us-east-1:123456789012:function:nobody/invocations"
    )
    client.put_integration(**method, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    template = {"application/json": "$context.apiId $context.stage"}
    client.put_gateway_response(
        restApiId=api["id"], responseType="INTEGRATION_FAILURE", statusCode="200", responseTemplates=template
    )
    for stage in stages:
        client.create_deployment(restApiId=api["id"], stageName=stage)
    return str(api["id"])


def answer_at(lab: Lab, url: str) -> tuple[int, bytes]:
    """What the address answers; the port is asked under its name, as names below localhost may not resolve here."""
    address = urllib.parse.urlsplit(url)
    status, _, body = request(lab, path=address.path, host=address.netloc)
    return status, body


def test_each_address_that_a_lab_prints_is_one_of_what_is_deployed_and_answers(shared_lab: Lab) -> None:
    names = ("addresses", "addresses", "addresses of another")
    stages = (("v1", "v2"), ("v1",), ())
    apis = [deploy_api(shared_lab, name, *wanted) for name, wanted in zip(names, stages, strict=True)]
    expected = {
        (f"http://{api}.execute-api.localhost:{shared_lab.port}/{stage}/", f"{name} {stage}")
        for api, name, wanted in zip(apis, names, stages, strict=True)
        for stage in wanted
    }
    listed = run_here("lab", main, "urls", "--port", str(shared_lab.port))
    assert (listed.returncode, listed.stderr) == (0, "")
    printed = [(url, name) for url, _, name in (line.partition("  ") for line in listed.stdout.splitlines())]
    assert len(printed) == len(set(printed))
    as_json = run_here("lab", main, "urls", "--port", str(shared_lab.port), "--json")
    assert [(one["url"], one["name"]) for one in json.loads(as_json.stdout)] == printed
    assert {(url, name) for url, name in printed if any(api in url for api in apis)} == expected
    for url, name in expected:
        api, stage = url.removeprefix("http://").partition(".")[0], name.rpartition(" ")[2]
        assert answer_at(shared_lab, url) == (200, f"{api} {stage}".encode())

    said = "".join(shared_lab.log)
    (pattern,) = re.findall(r"REST APIs: (\S+?)\.\.\.", said)
    assert {pattern.replace("API_ID", apis[0]).replace("STAGE", stage) for stage in stages[0]} <= {
        url for url, _ in expected
    }
    (page,) = re.findall(r"page of this lab: (\S+)", said)
    assert answer_at(shared_lab, page)[0] == 200

    shared_lab.client("apigateway").delete_rest_api(restApiId=apis[1])
    listed = run_here("lab", main, "urls", "--port", str(shared_lab.port))
    assert apis[0] in listed.stdout
    assert apis[1] not in listed.stdout


def test_urls_says_that_no_lab_runs_and_what_to_do() -> None:
    with refusing_port() as port:
        ended = run_here("lab", main, "urls", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"no lab answers at http://localhost:{port}" in ended.stderr
    assert "inference-lab lab serve" in ended.stderr


def test_a_bucket_is_reached_by_its_name_as_host(shared_lab: Lab) -> None:
    shared_lab.client("s3").create_bucket(Bucket="a-bucket")
    sign = {"Authorization": "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/s3/aws4_request"}
    host = f"a-bucket.localhost:{shared_lab.port}"
    assert request(shared_lab, "PUT", "/key", body=b"content", host=host, **sign)[0] == 200
    found = shared_lab.client("s3").get_object(Bucket="a-bucket", Key="key")
    assert found["Body"].read() == b"content"


@pytest.mark.parametrize(
    ("target", "service"),
    [("Logs_20140328.FilterLogEvents", "logs"), ("AmazonEC2ContainerRegistry_V20150921.DescribeImages", "ecr")],
)
@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b"[1]", b'"x"', b"\xff\xfe", b'{"logGroupName": 7}', b"[" * 100_000]
)
def test_a_broken_body_gets_an_aws_error_and_no_traceback(
    shared_lab: Lab, target: str, service: str, body: bytes
) -> None:
    status, headers, answer = request(
        shared_lab,
        "POST",
        body=body,
        Content_Type="application/x-amz-json-1.1",
        X_Amz_Target=target,
        Authorization=f"AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{service}/aws4_request, SignedHeaders=a",
    )
    assert 400 <= status < 600
    assert "json" in headers["content-type"]
    assert "__type" in json.loads(answer)
    assert b"Traceback" not in answer


def test_a_body_over_the_limit_is_refused_before_it_is_read(shared_lab: Lab) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_lab.port, timeout=600)
    connection.putrequest("PUT", "/bucket/key", skip_host=True)
    connection.putheader("Host", f"localhost:{shared_lab.port}")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"RequestEntityTooLarge" in answer.read()
    connection.close()


def test_motos_own_console_is_not_served(shared_lab: Lab) -> None:
    assert request(shared_lab, "POST", "/moto-api/reset")[0] == 404
    assert request(shared_lab, "GET", "/latest/meta-data/iam")[0] == 404


def test_a_configuration_update_makes_a_new_revision_and_an_old_one_is_refused(shared_lab: Lab) -> None:
    make_role(shared_lab)
    client = shared_lab.client("lambda")
    uri = shared_lab.push_image()
    client.create_function(
        FunctionName="g", PackageType="Image", Code={"ImageUri": uri}, Role="arn:aws:iam::123456789012:role/r"
    )
    before = client.get_function_configuration(FunctionName="g")
    client.update_function_configuration(FunctionName="g", Environment={"Variables": {"A": "1"}})
    client.get_waiter("function_updated_v2").wait(FunctionName="g")
    after = client.get_function_configuration(FunctionName="g")
    assert after["RevisionId"] != before["RevisionId"]
    assert after["Environment"]["Variables"] == {"A": "1"}
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.update_function_configuration(FunctionName="g", MemorySize=256, RevisionId=before["RevisionId"])
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="MemorySize"):
        client.update_function_configuration(FunctionName="g", MemorySize=20_000)
    client.put_function_event_invoke_config(FunctionName="g", MaximumRetryAttempts=1)
    client.put_function_event_invoke_config(FunctionName="g", MaximumRetryAttempts=0)
    assert client.get_function_event_invoke_config(FunctionName="g")["MaximumRetryAttempts"] == 0


def test_env_prints_exports_that_a_shell_takes() -> None:
    script = 'eval "$("$1" -m lab env --port 5123)" && "$1" -c "import os, json; print(json.dumps(dict(os.environ)))"'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable],
        cwd=REPOSITORY,
        env={**os.environ, "AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ended.stdout)
    assert found["AWS_ENDPOINT_URL"] == "http://localhost:5123"
    assert {name: found[name] for name in client_environment("http://localhost:5123")} == client_environment(
        "http://localhost:5123"
    )
    assert "AWS_PROFILE" not in found
    assert "AWS_SESSION_TOKEN" not in found
    assert os.access(found["CDK_DOCKER"], os.X_OK)


def test_the_docker_stand_in_runs_from_any_directory(tmp_path: Path) -> None:
    environment = {**os.environ, **client_environment("http://localhost:1")}
    ended = subprocess.run(
        [environment["CDK_DOCKER"], "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert "build" in ended.stdout


def test_doctor_says_what_this_machine_can_enforce() -> None:
    # Nice, for the sake of tests beside this one; whoever takes its CPU instead is another program, too.
    hog = subprocess.Popen(["nice", sys.executable, "-c", "while True: pass"])
    try:
        ended = run_lab("doctor", "--json")
    finally:
        hog.kill()
        hog.wait()
    findings = {finding["subject"]: finding for finding in json.loads(ended.stdout)}
    assert {"CPU share", "memory limit", "freezing between calls", "CPUs", "load", "memory"} <= set(findings)
    if sys.platform == "linux" and (os.cpu_count() or 1) < 8:
        assert findings["load"]["grade"] == "limited"
        assert "in use by other programs" in findings["load"]["found"]
    assert all(f["advice"] for f in findings.values() if f["grade"] != "ok")
    assert ended.returncode == (2 if any(f["grade"] == "missing" for f in findings.values()) else 0)


@pytest.mark.parametrize("command", [[], ["serve"], ["env"], ["urls"], ["doctor"]])
def test_help_names_the_options(command: list[str]) -> None:
    ended = run_here("lab", main, *command, "--help")
    assert ended.returncode == 0
    assert "usage: inference-lab lab" in ended.stdout
