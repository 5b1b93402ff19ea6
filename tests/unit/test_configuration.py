"""`benchmark.toml` is read as written, and a mistake is named with what to do."""

from __future__ import annotations

import pytest

from benchmark.configuration import DEFAULT_PATH, parse_configuration, read_configuration
from benchmark.errors import ConfigurationError

TEXT = DEFAULT_PATH.read_text(encoding="utf-8")


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
    assert demo.matrix.models == base.matrix.models
    assert demo.function == base.function


@pytest.mark.parametrize(
    ("find", "put", "said"),
    [
        ("timeout_s = 120", "timeout_s = 901", "`function.timeout_s` is 901"),
        ("timeout_s = 120", "timeoutt_s = 120", "unknown key `function.timeoutt_s`"),
        ('stage_name = "v1"', "", "`gateway.stage_name` is missing"),
        ('architecture = "x86_64"', 'architecture = "sparc"', "allowed: 'x86_64' or 'arm64'"),
        ('"inceptionv3", "mobilenet"]', '"inceptionv3", "vgg"]', "is 'vgg'"),
        ('models = ["resnet50", ', 'models = ["mobilenet", ', "every value once"),
        ("memory_sizes_mb = [512, ", "memory_sizes_mb = [64, ", "is 64"),
        ("samples = 100 ", "samples = 2000 ", "max_samples (1000) must be at least samples (2000)"),
        ("duration_minutes = 120", "duration_minutes = 5", "duration_minutes (5) must be at least"),
        ("max_usd = 5.0", "max_usd = 0", "`experiments.max_usd` is 0"),
        ("[matrix]", "[matrix", "is not TOML"),
        ("time_scale = 13.0", "time_scale = 0.5", "[profile.demo]: key `lab.time_scale` is 0.5"),
    ],
)
def test_a_mistake_is_named_by_its_key_its_value_and_what_is_allowed(find, put, said):
    assert find in TEXT
    assert said in refused(TEXT.replace(find, put, 1))


def test_a_profile_that_is_not_there_is_refused_with_those_there_are():
    said = refused(TEXT, profile="fast")
    assert "profile 'fast' is not there" in said
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
