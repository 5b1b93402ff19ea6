"""`inference-lab`: every command answers through it, completes in a shell, and has its section in the reference."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess

import pytest

from core.paths import COMMANDS_PAGE, REPOSITORY
from inference_lab.__main__ import PROGRAMS, main
from inference_lab.completion import all_commands, complete_parser, script, subcommands
from inference_lab.reference import page
from tests.commands import run_here

COMMAND = REPOSITORY / "tools" / "inference-lab"
# Completes the words after the script's name, as bash does when one presses Tab after the last of them.
PRESS_TAB = """
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
_shtab_inference_lab inference-lab "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def commands():
    """Every command by its words."""
    return {name: parser for name, parser in all_commands(complete_parser()) if name}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(script(shell))
    return folder


def test_every_command_answers_help_through_the_one_command(commands):
    assert set(PROGRAMS) < set(commands)
    for name, parser in commands.items():
        done = run_here("inference-lab", main, *name.split(), "--help")
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert "usage: " in done.stdout, name
        assert name == "lab docker" or done.stdout.startswith(f"usage: {parser.prog}"), name


def test_an_unknown_command_is_an_error_that_names_the_known_ones():
    done = run_here("inference-lab", main, "serve")
    assert done.returncode == 1
    assert "'experiments'" in done.stderr


def test_the_command_works_in_another_folder_whatever_that_holds(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise RuntimeError")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [COMMAND, "lab", "env"], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "export AWS_ENDPOINT_URL=" in done.stdout


def test_a_link_starts_the_command_of_the_repository_that_it_leads_to(tmp_path):
    (tmp_path / "inference-lab").symlink_to(COMMAND)
    done = subprocess.run([tmp_path / "inference-lab", "--help"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [*PROGRAMS, "completion"]),
        (["experiments", ""], ["run", "cold", "warm", "load", "estimate", "preflight", "cleanup", "swapping"]),
        (["experiments", "run", "--dry"], ["--dry-run"]),
        (["lab", "serve", "--driver", ""], ["auto", "process", "container"]),
        (["lab", "try", "--ev"], ["--event"]),
        (["analysis", "traffic", "--front-door", "h"], ["http_api"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes_commands_options_and_values(scripts, words, expected):
    done = subprocess.run(
        ["bash", "-c", PRESS_TAB, "bash", str(scripts / "bash"), "inference-lab", *words],
        check=True,
        capture_output=True,
        text=True,
    )
    assert sorted(done.stdout.split()) == sorted(expected)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_valid_in_the_shell_that_reads_it(scripts, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(scripts / shell)], check=True)


def test_fish_completes_an_option(scripts):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    program = f"source {scripts / 'fish'}; complete --do-complete 'inference-lab experiments run --until-'"
    done = subprocess.run(["fish", "-c", program], check=True, capture_output=True, text=True)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"--until-ci", "--until-decided"}


def test_the_reference_is_what_the_parsers_say():
    assert COMMANDS_PAGE.read_text(encoding="utf-8") == page(), "run `make reference`"


@pytest.mark.parametrize("words", ["cold --until-decided", "load --until-ci 3%", "swapping --max-usd 1"])
def test_an_option_without_effect_is_refused(commands, words, capsys):
    experiment, *options = words.split()
    with pytest.raises(SystemExit):
        commands[f"experiments {experiment}"].parse_args(options)
    assert "unrecognized arguments" in capsys.readouterr().err


def test_every_argument_says_what_it_means(commands):
    for name, parser in commands.items():
        for action in parser._actions if not subcommands(parser) else ():
            assert action.help, f"{name}: {action.option_strings or action.dest}"


def test_a_value_of_the_wrong_kind_is_refused_in_words(commands):
    for name, parser in commands.items():
        for action in parser._actions:
            if action.type not in (None, int, float):
                # Anything else that it raises would be shown as "invalid percent value", the name of a function.
                with contextlib.suppress(argparse.ArgumentTypeError):
                    assert action.type("no number"), f"{name} {action.option_strings}"
