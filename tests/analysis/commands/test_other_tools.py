"""Other tools' files are read and written as they define them."""

import json
import re

import pytest

from analysis import __main__ as command
from analysis.report.open_metrics import open_metrics
from analysis.report.power_tuning import (
    beside_power_tuning,
    power_tuning_input,
    power_tuning_markdown,
    read_power_tuning,
)
from core.configuration import read_configuration
from core.errors import RecordError, UserError
from core.variants import Image
from tests.analysis import synthetic

# The documented output, with averages as `includeOutputResults` adds them.
RESULT = {
    "results": {
        "power": "1769",
        "cost": 0.0000017,
        "duration": 21.5,
        "stateMachine": {"executionCost": 0.00045, "lambdaCost": 0.0005252, "visualization": "https://example.org/#x"},
        "stats": [
            {"averagePrice": 0.0000019, "averageDuration": 31.0, "value": 1024},
            {"averagePrice": 0.0000017, "averageDuration": 21.5, "value": 1769},
        ],
    }
}


@pytest.fixture(scope="module")
def summary():
    configuration = read_configuration(profile="demo")
    return synthetic.summary_of(configuration, synthetic.make_rows(configuration, load_s=5))


def test_a_power_tuning_result_stands_beside_ours(summary):
    theirs = read_power_tuning(json.dumps(RESULT))
    found = beside_power_tuning(summary, Image("mobilenet", "onnxruntime", "x86_64"), theirs)
    assert [c.memory_mb for c in found] == [1024, 1769, 3008]
    assert found[0].their_duration_ms == 31.0
    assert found[1].our_duration.value == pytest.approx(15, abs=3)
    assert found[2].their_usd is None
    text = power_tuning_markdown(found)
    assert "| 1024 | 31.0 |" in text
    assert "trim" in text


def test_a_result_without_averages_or_without_its_wrapping_is_read_too():
    bare = {key: RESULT["results"][key] for key in ("power", "cost", "duration")}
    assert read_power_tuning(json.dumps(bare)).power == 1769


@pytest.mark.parametrize(
    "saved",
    [
        json.dumps(RESULT["results"]),
        json.dumps({"output": RESULT}),
        json.dumps({"output": RESULT["results"]}),
        json.dumps({"executionArn": "arn", "status": "SUCCEEDED", "output": json.dumps(RESULT["results"])}),
        json.dumps({"detail": {"status": "SUCCEEDED", "output": json.dumps(RESULT["results"])}}),
        json.dumps(json.dumps(RESULT["results"])),  # --query output
        "Execution output: \n" + json.dumps(RESULT, indent=4) + "\n",
        "-n Execution started...\nSUCCEEDED\nExecution output: \n" + json.dumps(RESULT, indent=4) + "\n",
        "\ufeff" + json.dumps(RESULT),
    ],
)
def test_a_result_is_read_in_every_form_in_which_it_is_saved(saved):
    assert read_power_tuning(saved) == read_power_tuning(json.dumps(RESULT))


FAILED = {"error": "Lambda.Unknown", "cause": "timeout"}


@pytest.mark.parametrize(
    "saved",
    [
        *("", " \n", "{}", "null", '""', "None\n", "Execution output:\n"),
        *('{"output": {}}', '{"output": null}', '{"output": ""}', '{"output": "{}"}', '{"output": "null"}'),
        *('{"results": {}}', '{"results": null}', '{"detail": null}', '{"detail": {"output": {"results": null}}}'),
        '{"status": "SUCCEEDED", "output": "{}"}',
        # https://github.com/alexcasalboni/aws-lambda-power-tuning/issues/59
        "-n Execution started...\n-n .\nSUCCEEDED\nExecution output: \n{}\n",
    ],
)
def test_an_empty_result_is_called_empty(saved):
    with pytest.raises(RecordError, match="is empty: its execution failed, is not over, or was a dry run") as refused:
        read_power_tuning(saved)
    assert "Step Functions" in refused.value.hint


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"status": "RUNNING"}, "is of an execution that is RUNNING\n"),
        ({"status": "ABORTED", "output": None}, "ABORTED\n"),
        ({"status": "TIMED_OUT", "output": {}}, "TIMED_OUT\n"),
        ({"status": "FAILED"} | FAILED, "FAILED: Lambda.Unknown timeout"),
        ({"status": "FAILED", "output": None} | FAILED, "FAILED: Lambda.Unknown timeout"),
        ({"detail": {"status": "FAILED", "output": None} | FAILED}, "FAILED: Lambda.Unknown timeout"),
        (FAILED, "is the error of a failed execution: Lambda.Unknown timeout"),
        # https://github.com/alexcasalboni/aws-lambda-power-tuning/issues/74 and 70
        ({"error": "Error", "cause": {"errorMessage": "no id"}}, 'execution: Error {"errorMessage": "no id"}'),
        ({"errorType": "Error", "errorMessage": "Missing or empty optimal value"}, "Error Missing or empty optimal"),
        # https://github.com/lumigo-io/lumigo-CLI/issues/78
        ({"lambdaARN": "arn", "num": 10, "error": {"Error": "NotFound", "Cause": "gone"}}, "execution: NotFound gone"),
    ],
)
def test_a_failed_execution_is_named_with_its_error(saved, said):
    with pytest.raises(RecordError, match=said) as refused:
        read_power_tuning(json.dumps(saved))
    assert "Step Functions" in refused.value.hint


@pytest.mark.parametrize(
    ("saved", "said", "hint"),
    [
        ({"status": "SUCCEEDED", "outputDetails": {"included": False}}, "left out of this answer", "ALL_DATA"),
        ({"lambdaARN": "arn", "powerValues": [128], "num": 10}, "is the state machine's input", "output of its"),
        ({"events": [{"type": "ExecutionStarted"}]}, "is the execution's history", "output of its"),
        ({"executionArn": "arn", "startDate": 1.0}, "StartExecution", "describe-execution"),
    ],
)
def test_another_document_of_an_execution_is_named_with_what_to_give_instead(saved, said, hint):
    with pytest.raises(RecordError, match=said) as refused:
        read_power_tuning(json.dumps(saved))
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "[" * 100_000,
        '{"results": {"cost": 1}}',
        '{"results": {"power": "big"}}',
        '{"power": 0, "cost": 1, "duration": 1}',
        '{"power": 128, "cost": NaN, "duration": 1}',
        '{"power": 128, "cost": 1, "duration": -1}',
        '{"power": 128, "cost": 1, "duration": 1, "stats": null}',
    ],
)
def test_what_is_no_result_is_refused_with_what_it_lacks(text):
    with pytest.raises(RecordError, match="power tuning result"):
        read_power_tuning(text)


@pytest.mark.parametrize("what", ["--input-for", "--result"])
def test_a_model_that_is_not_there_is_named_with_those_that_are(tmp_path, summary, what):
    run = tmp_path / "20261121T101500Z-0001"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    (run / "summary.json").write_text(summary.model_dump_json())
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    with pytest.raises(UserError, match=r"no model 'mobilnet'\n.*mobilenet"):
        command.main(["power-tuning", "mobilnet", what, str(file), "--results", str(tmp_path)])


def test_the_input_asks_the_state_machine_to_trim_nothing():
    found = power_tuning_input("arn:aws:lambda:eu-central-1:1:function:f", [1769, 1024], samples=2)
    assert found["powerValues"] == [1024, 1769]
    assert found["num"] == 5
    assert found["discardTopBottom"] == 0


def test_open_metrics_are_of_the_form_the_specification_asks(summary):
    text = open_metrics(summary)
    assert text.endswith("# EOF\n")
    kinds, seen = {}, None
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            _, _, seen, kind = line.split()
            assert seen not in kinds, "a family is declared once, and its samples stand together"
            kinds[seen] = kind
        elif line.startswith("# UNIT "):
            assert seen.endswith("_" + line.split()[3])
        elif not line.startswith("# HELP "):
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            assert name == seen
            assert re.fullmatch(r'(\w+="(?:[^"\\]|\\.)*",?)+', labels)
            float(value)
    assert kinds["inference_lab_client_latency_seconds"] == "gauge"
    assert 'source="lab"' in text
