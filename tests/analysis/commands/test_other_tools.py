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
        "\ufeff" + json.dumps(RESULT),
    ],
)
def test_a_result_is_read_in_every_form_in_which_it_is_saved(saved):
    assert read_power_tuning(saved) == read_power_tuning(json.dumps(RESULT))


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ("{}", "failed or not over"),
        ('{"output": "{}"}', "failed or not over"),
        ('{"status": "RUNNING"}', "RUNNING"),
        ('{"status": "FAILED", "error": "Lambda.Unknown", "cause": "timeout"}', "FAILED: Lambda.Unknown timeout"),
    ],
)
def test_an_execution_without_output_is_told_from_a_wrong_file(saved, said):
    with pytest.raises(RecordError, match=said) as refused:
        read_power_tuning(saved)
    assert "Step Functions" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
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
