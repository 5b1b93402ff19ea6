import json
import re
import subprocess
import sys

import pytest

from core.configuration import read_configuration
from core.errors import ConfigurationError
from core.paths import REPOSITORY
from loadtests.plan import REPLACED_OPTIONS, make_plan


@pytest.fixture
def configuration():
    return read_configuration(profile="")


def test_without_options_every_variant_is_loaded_as_configured(configuration):
    plan = make_plan(configuration, {})
    assert plan.variants == configuration.variants
    assert plan.table == configuration.experiments.load
    assert sum(1 for _ in plan.shape.arrivals()) == 15_000
    assert plan.patience_s == 60  # an answer is waited for as long as the gateway may take for it


def test_options_select_variants_and_change_the_shape(configuration):
    plan = make_plan(
        configuration,
        {"model": "mobilenet, resnet50", "memory_mb": "1024", "shape": "constant", "end_rps": "5", "duration_s": "4"},
    )
    assert [v.route for v in plan.variants] == ["/resnet50/1024", "/mobilenet/1024"]
    assert sum(1 for _ in plan.shape.arrivals()) == 20
    key = configuration.variants[-1].key
    assert [v.key for v in make_plan(configuration, {"variants": key}).variants] == [key]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "alexnet"}, "--model is 'alexnet'.*resnet50"),
        ({"variants": "mobilenet"}, "--variants is 'mobilenet'.*mobilenet-tensorflow-x86_64-512"),
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


# https://github.com/locustio/locust/issues/2314 and 2683: a run time with a shape, and one that a worker is given.
@pytest.mark.parametrize("name", REPLACED_OPTIONS)
def test_an_option_of_locust_that_the_plan_replaces_is_refused(configuration, name):
    untouched, hint = REPLACED_OPTIONS[name]
    make_plan(configuration, {name: untouched})
    value = True if untouched is False else "7"
    with pytest.raises(ConfigurationError, match="has no effect") as refused:
        make_plan(configuration, {name: value})
    assert refused.value.hint == hint


# Options of Locust that do here what Locust says of them.
KEPT = {
    *("locustfile", "config", "help", "version", "list_commands", "user_classes"),
    *("headless", "headful", "autostart", "autoquit", "legacy_ui", "build_path"),
    *("web_host", "web_host_display_name", "web_port", "web_auth", "web_login", "web_base_path", "tls_cert", "tls_key"),
    *("master", "slave", "worker", "processes", "master_host", "master_port", "master_bind_host", "master_bind_port"),
    *("expect_workers", "expect_slaves", "expect_workers_max_wait"),
    *("csv_prefix", "stats_history_enabled", "print_stats", "only_summary", "reset_stats", "html_file"),
    *("json", "json_file", "skip_log_setup", "loglevel", "logfile", "show_task_ratio", "show_task_ratio_json"),
}


@pytest.fixture(scope="module")
def options_of_locust():
    """Default and names on the command line of each option, in the order of Locust."""
    # In a process of its own: Locust replaces parts of the standard library when it is imported.
    code = (
        "import json; from locust import argument_parser as its; parser = its.get_empty_argument_parser();"
        " its.setup_parser_arguments(parser); defaults = vars(parser.parse_args([])); print(json.dumps("
        "{a.dest: [defaults.get(a.dest), a.option_strings] for a in parser._actions}, default=str))"
    )
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


def test_every_option_of_locust_is_refused_or_does_what_locust_says(options_of_locust):
    assert set(options_of_locust) == KEPT | set(REPLACED_OPTIONS)
    assert not KEPT & set(REPLACED_OPTIONS)
    defaults = {name: options_of_locust[name][0] for name in REPLACED_OPTIONS}
    assert defaults == {name: untouched for name, (untouched, _) in REPLACED_OPTIONS.items()}


def test_the_page_lists_every_option_that_is_refused(options_of_locust):
    page = (REPOSITORY / "docs" / "explanation" / "load.md").read_text(encoding="utf-8")
    table = page.partition("## Options of Locust")[2].partition("\n## ")[0]
    options = "".join(line.split("|")[1] for line in table.splitlines() if "| refused" in line)
    listed = set(re.findall(r"`(--[a-z-]+)`", options))
    assert listed == {options_of_locust[name][1][-1] for name in REPLACED_OPTIONS}
