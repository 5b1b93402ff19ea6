"""`benchmark.toml` is read as written, and a mistake is named with what to do."""

from __future__ import annotations

import json
import re

import pytest

from core.configuration import Configuration, for_a_lab, parse_configuration, read_configuration
from core.errors import ConfigurationError
from core.paths import BENCHMARK_TOML
from core.variants import GROUPS

TEXT = BENCHMARK_TOML.read_text(encoding="utf-8")


def refused(text, profile=""):
    with pytest.raises(ConfigurationError) as error:
        parse_configuration(text, profile=profile, origin="benchmark.toml")
    return str(error.value)


def test_variants_are_every_model_at_every_memory_size_once():
    configuration = parse_configuration(TEXT)
    matrix = configuration.matrix
    assert len(configuration.variants) == len(matrix.models) * len(matrix.engines) * len(matrix.memory_sizes_mb)
    assert len({variant.key for variant in configuration.variants}) == len(configuration.variants)


def test_a_profile_overrides_the_keys_it_names_and_no_others():
    base, demo = parse_configuration(TEXT), parse_configuration(TEXT, profile="demo")
    assert demo.profile == "demo"
    assert demo.matrix.memory_sizes_mb != base.matrix.memory_sizes_mb
    assert demo.matrix.architectures == base.matrix.architectures
    assert demo.function == base.function


def changed(key, value):
    """The text with the first line of this key replaced."""
    text, count = re.subn(rf"^{key} = .*$", value, TEXT, count=1, flags=re.MULTILINE)
    assert count == 1
    return text


@pytest.mark.parametrize(
    ("key", "line", "said"),
    [
        ("timeout_s", "timeout_s = 901", "`function.timeout_s` is 901"),
        ("timeout_s", "timeoutt_s = 120", "unknown key `function.timeoutt_s`"),
        ("stage_name", "", "`gateway.stage_name` is missing"),
        ("architectures", "architectures = ['sparc']", "allowed: 'x86_64' or 'arm64'"),
        ("models", "models = ['resnet50', 'vgg']", "is 'vgg'"),
        ("models", "models = ['mobilenet', 'mobilenet']", "every value once"),
        ("memory_sizes_mb", "memory_sizes_mb = [64]", "is 64"),
        ("max_samples", "max_samples = 1", "max_samples (1) must be at least samples"),
        ("duration_minutes", "duration_minutes = 1", "duration_minutes (1) must be at least"),
        ("max_usd", "max_usd = 0", "`experiments.max_usd` is 0"),
        ("max_usd", "max_usd = ", "is not TOML"),
        ("timeout_s", "timeout_s = '60'", "`function.timeout_s` is '60'; input should be a valid integer"),
        ("timeout_s", "timeout_s = 60.0", "`function.timeout_s` is 60.0; input should be a valid integer"),
        ("port", "port = true", "`lab.port` is True; input should be a valid integer"),
        ("max_usd", "max_usd = '5'", "`experiments.max_usd` is '5'; input should be a valid number"),
        ("late_after_ms", "late_after_ms = false", "`experiments.load.late_after_ms` is False"),
        ("memory_sizes_mb", "memory_sizes_mb = ['512']", "`matrix.memory_sizes_mb.0` is '512'"),
        ("steps", "steps = [['10', 60]]", "`experiments.load.steps.0.0` is '10'"),
        ("directory", "directory = 7", "`function.directory` is 7; input should be a valid string"),
        ("integration_timeout_ms", "integration_timeout_ms = 49", "`gateway.integration_timeout_ms` is 49"),
        ("end_rps", "end_rps = inf", "`experiments.load.end_rps` is inf; input should be a finite number"),
        ("max_usd", "max_usd = nan", "`experiments.max_usd` is nan; input should be a finite number"),
        ("time_scale", "time_scale = inf", "`lab.time_scale` is inf; input should be a finite number"),
        ("steps", "steps = [[inf, 60]]", "`experiments.load.steps.0.0` is inf"),
        ("daily_shape", f"daily_shape = [inf{', 1' * 23}]", "`traffic.daily_shape.0` is inf"),
        ("daily_shape", f"daily_shape = {[0] * 24}", "key `traffic.daily_shape`: 24 weights of 0"),
    ],
)
def test_a_mistake_is_named_by_its_key_its_value_and_what_is_allowed(key, line, said):
    assert said in refused(changed(key, line))


def test_a_mistake_in_a_profile_is_found_before_the_day_it_is_used():
    said = refused(f"{TEXT}\n[profile.later.lab]\ntime_scale = 0.5\n")
    assert "[profile.later]: key `lab.time_scale` is 0.5" in said


def test_a_profile_that_is_not_there_is_refused_with_those_there_are():
    said = refused(TEXT, profile="fast")
    assert "profile 'fast' does not exist" in said
    assert "demo" in said


def test_another_file_and_another_profile_are_named_by_environment_variables(tmp_path, monkeypatch):
    path = tmp_path / "other.toml"
    path.write_text(TEXT.replace('name_prefix = "inference-lab"', 'name_prefix = "other"'), encoding="utf-8")
    monkeypatch.setenv("BENCHMARK_TOML", str(path))
    monkeypatch.setenv("BENCHMARK_PROFILE", "demo")
    configuration = read_configuration()
    assert configuration.function.name_prefix == "other"
    assert configuration.profile == "demo"
    assert read_configuration(profile="").profile == ""


def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml cannot be read"):
        read_configuration(tmp_path / "absent.toml")


def test_whole_numbers_stand_for_fractions_and_arrays_for_their_elements():
    text = changed("max_usd", "max_usd = 5").replace('daily_shape = "business_hours"', f"daily_shape = {[1] * 24}")
    configuration = parse_configuration(text)
    assert configuration.experiments.max_usd == 5.0
    assert configuration.traffic.daily_shape == (1.0,) * 24


def test_a_configuration_comes_back_from_a_manifest_as_it_was():
    configuration = parse_configuration(TEXT, profile="demo")
    assert Configuration.model_validate(json.loads(configuration.model_dump_json())) == configuration


BOTH = TEXT.replace('architectures = ["x86_64"]', 'architectures = ["x86_64", "arm64"]')


def test_architectures_stand_side_by_side_under_names_and_routes_of_their_own():
    configuration = parse_configuration(BOTH)
    alone = parse_configuration(TEXT)
    assert len(configuration.variants) == 2 * len(alone.variants)
    names = {configuration.names.function(variant) for variant in configuration.variants}
    assert len(names) == len({variant.route for variant in configuration.variants}) == len(configuration.variants)
    assert configuration.groups == ("tensorflow", "tensorflow-arm64")
    # What runs of x86_64 are stored under does not change with a second architecture.
    assert {alone.names.function(variant) for variant in alone.variants} <= names
    assert "inference-lab-resnet50-tensorflow-arm64-512" in names


def test_start_modes_have_functions_of_their_own_and_leave_the_names_of_others_alone():
    before = read_configuration(profile="")
    both = parse_configuration(changed("starts", 'starts = ["on_demand", "snapstart", "provisioned"]'))
    on_demand = [variant for variant in both.variants if variant.start == "on_demand"]
    assert tuple(on_demand) == before.variants
    snapstart = next(variant for variant in both.variants if variant.start == "snapstart")
    assert snapstart.key == "resnet50-tensorflow-x86_64-512-snapstart"
    assert snapstart.image.key == on_demand[0].image.key
    assert both.names.function(snapstart) == "inference-lab-resnet50-tensorflow-snapstart-512"
    assert snapstart.route == "/resnet50/snapstart/512"
    assert snapstart.display_name == "ResNet50 with SnapStart 512 MB"
    assert (snapstart.alias, on_demand[0].alias) == ("live", None)
    assert not snapstart.image.is_the_papers
    provisioned = next(variant for variant in both.variants if variant.start == "provisioned")
    assert provisioned.display_name == "ResNet50 with provisioned concurrency 512 MB"
    assert [both.provisioned_environments(one) for one in (on_demand[0], snapstart, provisioned)] == [0, 0, 1]
    for of in (both.names.function, both.names.schedule, lambda variant: variant.key, lambda variant: variant.route):
        assert len({of(variant) for variant in both.variants}) == len(both.variants)
    assert set(both.groups) <= set(GROUPS)


def test_a_range_of_restores_begins_with_the_shortest():
    assert "restore_ms" in refused(changed("restore_ms", "restore_ms = [740.0, 440.0]"))


@pytest.mark.parametrize(("machine", "own"), [("x86_64", "x86_64"), ("AMD64", "x86_64"), ("aarch64", "arm64")])
def test_a_lab_leaves_out_other_architectures_and_names_them(capsys, machine, own):
    configuration = for_a_lab(parse_configuration(BOTH), machine)
    assert {variant.architecture for variant in configuration.variants} == {own}
    said = capsys.readouterr().err
    left_out = "inference-lab-resnet50-tensorflow-512" if own == "arm64" else "-resnet50-tensorflow-arm64-512"
    assert left_out in said
    assert "and 12 more" in said


def test_a_lab_that_can_run_nothing_of_the_matrix_says_what_to_add():
    with pytest.raises(ConfigurationError, match=r"matrix\.architectures") as caught:
        for_a_lab(parse_configuration(TEXT), "aarch64")
    assert '"arm64"' in caught.value.hint


def test_only_a_lab_leaves_variants_out(monkeypatch, tmp_path):
    document = tmp_path / "benchmark.toml"
    document.write_text(BOTH, encoding="utf-8")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert len(read_configuration(document, profile="").groups) == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    assert len(read_configuration(document, profile="").groups) == 1


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"limit": NaN}', "NaN is not JSON"),
        ('{"limit": 1e999}', "is not JSON"),
    ],
)
def test_an_event_that_is_not_a_json_object_is_refused(event, words):
    text = re.sub(r"^event = .*$", f"event = '{event}'", BENCHMARK_TOML.read_text(), flags=re.MULTILINE)
    with pytest.raises(ConfigurationError, match=words):
        parse_configuration(text)


def provisioned_text(**lines: str) -> str:
    """benchmark.toml with functions that start `provisioned`, and other lines for some keys."""
    text = changed("starts", 'starts = ["provisioned"]')
    for key, value in lines.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
        assert count == 1, key
    return text


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ({"concurrency": "0"}, r"provisioned\.concurrency"),
        ({"concurrency": "4", "track_up_to": "4"}, r"track_up_to \(4\) must be above concurrency \(4\)"),
        ({"target_utilization": "1.0"}, r"provisioned\.target_utilization"),
        ({"schedule": '[["every morning", 4]]'}, r"provisioned\.schedule"),
        ({"schedule": '[["cron(0 7 * * ? *)", 0]]'}, r"provisioned\.schedule"),
        ({"schedule": '[["cron(0 7 * * ? *)", 6]]', "reserved_concurrency": "5"}, r"keeps up to 6 .* \(5\)"),
    ],
)
def test_provisioned_concurrency_that_aws_would_refuse_is_refused_by_its_key(lines, named):
    with pytest.raises(ConfigurationError, match=named):
        parse_configuration(provisioned_text(**lines))


def test_a_lab_leaves_out_what_application_auto_scaling_does_and_says_so(capsys):
    configuration = parse_configuration(
        provisioned_text(concurrency="2", track_up_to="5", schedule='[["cron(0 7 * * ? *)", 4]]')
    )
    assert (configuration.provisioned.highest, configuration.provisioned.is_scaled) == (5, True)
    (architecture,) = configuration.matrix.architectures
    fixed = for_a_lab(configuration, architecture)
    assert not fixed.provisioned.is_scaled
    assert fixed.provisioned.concurrency == 2
    said = capsys.readouterr().err
    assert re.search(r"target tracking and schedule .* 2 environments", said)
