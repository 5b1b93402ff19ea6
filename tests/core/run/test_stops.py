"""Why a part of the plan stopped is read back, whatever a kill or a bad disk left between the lines."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from core.run.run_directory import RunDirectory
from core.run.stops import STOPS_FILE, Stop, append_stop, read_stops

STOP = Stop("warm", "sequential", "mobilenet-tensorflow-x86_64-1769", "kept", "samples", "200 of 200", 200, 1.5)

WRONG_TYPE = json.dumps(asdict(STOP) | {"samples": "200"}).encode()
NAN = json.dumps(asdict(STOP) | {"half_width_percent": float("nan")}).encode()
UNKNOWN_REASON = json.dumps(asdict(STOP) | {"reason": "tired"}).encode()


@pytest.mark.parametrize(
    "damage", [WRONG_TYPE, NAN, UNKNOWN_REASON, b"\xff\xfe\x00", b'{"experiment": "wa', b"[]", b"1", b"{}", b""]
)
def test_a_damaged_line_costs_no_other_line(tmp_path, damage):
    run = RunDirectory(tmp_path)
    append_stop(run, STOP)
    with (tmp_path / STOPS_FILE).open("ab") as file:
        file.write(damage + b"\n")
    assert read_stops(run) == [STOP]


def test_a_number_that_is_not_json_is_never_written(tmp_path):
    run = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_stop(run, replace(STOP, half_width_percent=float("nan")))
    assert not (tmp_path / STOPS_FILE).exists()
