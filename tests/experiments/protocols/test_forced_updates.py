"""A forced update holds before the next call, or says what to do. Against Lambda's API as a server plays it."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from core.aws.cloud import Cloud
from core.configuration import read_configuration
from core.errors import CloudError
from experiments.aws.lambda_control import NONCE_VARIABLE, LambdaControl, Nonces

CONFIGURATION = read_configuration(profile="")
VARIANT = CONFIGURATION.variants[0]
OTHERS = {"MODEL": "resnet50"}


class LambdaApi(http.server.BaseHTTPRequestHandler):
    """GetFunction, GetFunctionConfiguration and UpdateFunctionConfiguration; a lab's updates hold at once."""

    protocol_version = "HTTP/1.1"
    statuses: list  # LastUpdateStatus of each GetFunction to come; the last one stays
    seen: list
    variables: dict

    def do_GET(self):
        answer = {"FunctionName": "f", "Environment": {"Variables": self.variables}}
        if not self.path.endswith("/configuration"):
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            self.seen.append(status)
            reason = {"LastUpdateStatusReason": "the image is gone"} if status == "Failed" else {}
            answer = {"Configuration": answer | {"LastUpdateStatus": status} | reason}
        self.answer(answer)

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.variables.clear()
        self.variables.update(body["Environment"]["Variables"])
        self.seen.append("update")
        self.answer({"FunctionName": "f"})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def api(monkeypatch):
    handler = type("OwnApi", (LambdaApi,), {"statuses": ["Successful"], "seen": [], "variables": dict(OTHERS)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=lambda: running.serve_forever(poll_interval=0.01), daemon=True)
        thread.start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "stand-in",
            "AWS_SECRET_ACCESS_KEY": "stand-in",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield handler
        running.shutdown()


def test_a_forced_update_waits_for_the_one_before_it_and_until_it_holds_itself(api):
    api.statuses[:] = ["InProgress", "Successful", "InProgress", "Successful"]
    LambdaControl(Cloud(), CONFIGURATION).set_nonce(VARIANT, "run/1")
    assert api.seen == ["InProgress", "Successful", "update", "InProgress", "Successful"]
    assert api.variables == OTHERS | {NONCE_VARIABLE: "run/1"}


def test_an_update_that_fails_is_named_with_its_reason_and_what_to_do(api):
    api.statuses[:] = ["Successful", "InProgress", "Failed"]
    with pytest.raises(CloudError) as refused:
        LambdaControl(Cloud(), CONFIGURATION).set_nonce(VARIANT, "run/1")
    assert CONFIGURATION.names.function(VARIANT) in refused.value.message
    assert refused.value.message.endswith("Failed, the image is gone")
    assert "aws lambda get-function-configuration" in refused.value.hint
    assert "--resume" in refused.value.hint


def test_what_ends_a_block_of_forced_updates_leaves_the_functions_own_variables(api):
    def interrupted():
        with Nonces(LambdaControl(Cloud(), CONFIGURATION), "run") as nonces:
            nonces.force(VARIANT, "1")
            assert NONCE_VARIABLE in api.variables
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert api.variables == OTHERS


def test_a_nonce_that_cannot_be_removed_is_said_with_what_removes_it(api):
    def force_and_fail():
        with Nonces(LambdaControl(Cloud(), CONFIGURATION), "run") as nonces:
            nonces.force(VARIANT, "1")
            api.statuses[:] = ["Failed"]

    with pytest.raises(CloudError) as refused:
        force_and_fail()
    assert f"1 functions keep the variable {NONCE_VARIABLE}" in str(refused.value)
    assert "experiments cleanup" in refused.value.hint
