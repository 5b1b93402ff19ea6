import json
import subprocess
import sys

import pytest

from core.configuration import read_configuration
from core.errors import ConfigurationError
from loadtests.plan import REPLACED_OPTIONS, make_plan


@pytest.fixture
def configuration():
    return read_configuration(profile="")


def test_without_options_every_variant_is_loaded_as_configured(configuration):
    plan = make_plan(configuration, {})
    assert plan.variants == configuration.variants
    assert plan.table == configuration.experiments.load
    assert plan.offered == 15_000
    assert plan.patience_s == 60  # an answer is waited for as long as the gateway may take for it


def test_options_select_variants_and_change_the_shape(configuration):
    plan = make_plan(
        configuration,
        {"model": "mobilenet, resnet50", "memory_mb": "1024", "shape": "constant", "end_rps": "5", "duration_s": "4"},
    )
    assert [v.route for v in plan.variants] == ["/resnet50/1024", "/mobilenet/1024"]
    assert plan.offered == 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "alexnet"}, "--model is 'alexnet'.*resnet50"),
        ({"memory_mb": "777"}, "--memory-mb is '777'.*512"),
        ({"shape": "sine"}, "--shape is 'sine'"),
        ({"end_rps": "-1"}, "--end-rps is '-1'"),
        ({"duration_s": "soon"}, "--duration-s is 'soon'"),
        ({"max_in_flight": "0"}, "--max-in-flight"),
        ({"spacing": "odd"}, "--spacing is 'odd'.*even, poisson"),
        ({"end_rps": "0.001", "duration_s": "1"}, "offers 0.00 requests"),
        ({"end_rps": "inf"}, "--end-rps is 'inf'.*finite"),
        ({"duration_s": "inf"}, "--duration-s is 'inf'.*finite"),
        ({"end_rps": "1e308", "duration_s": "1e308"}, "the load never ends"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(configuration, options, named):
    with pytest.raises(ConfigurationError, match=named):
        make_plan(configuration, options)


@pytest.mark.parametrize("name", REPLACED_OPTIONS)
def test_an_option_of_locust_that_the_plan_replaces_is_refused(configuration, name):
    untouched, hint = REPLACED_OPTIONS[name]
    make_plan(configuration, {name: untouched})
    value = {"class_picker": True, "equal_weights": True, "exit_code_on_error": 0}.get(name, "7")
    with pytest.raises(ConfigurationError, match="has no effect") as refused:
        make_plan(configuration, {name: value})
    assert refused.value.hint == hint


def test_every_replaced_option_is_one_of_locust_at_its_default():
    # In a process of its own: Locust replaces parts of the standard library when it is imported.
    code = (
        "import json; from locust import argument_parser as its; parser = its.get_empty_argument_parser();"
        " its.setup_parser_arguments(parser); print(json.dumps(vars(parser.parse_args([])), default=str))"
    )
    defaults = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert {name: defaults[name] for name in REPLACED_OPTIONS} == {n: v for n, (v, _) in REPLACED_OPTIONS.items()}
