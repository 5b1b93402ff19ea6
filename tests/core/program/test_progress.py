"""What a person sees of a run, on a terminal and off it."""

from __future__ import annotations

from core.program.progress import Progress, duration_text


def play(progress):
    with progress:
        progress.phase("cold", 10, then_s=90)
        for _ in range(10):
            progress.advance(1, "MobileNet 1024 MB")
        progress.say("something that a person should know")
        progress.phase("warm", 5)
        progress.at(5)


def test_off_a_terminal_only_what_matters_is_said(capsys):
    play(Progress(terminal=False))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "something that a person should know\n"


def test_off_a_terminal_phases_are_said_when_asked_for(capsys):
    play(Progress(terminal=False, verbose=True))
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "cold: begins"
    assert "warm: begins" in lines
    assert "\r" not in said.err
    assert "\x1b" not in said.err


def test_on_a_terminal_nothing_of_it_reaches_standard_output(capsys):
    play(Progress(terminal=True))
    assert capsys.readouterr().out == ""


def test_durations_are_in_the_unit_a_person_would_use():
    assert [duration_text(s) for s in (0.4, 59, 61, 7300)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
