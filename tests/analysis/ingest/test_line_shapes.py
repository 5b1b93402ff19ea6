"""Lines that are read by their shapes give what the parser of single lines gives, whatever they hold."""

import gzip
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from analysis.ingest import line_scan
from analysis.ingest.client_records import ClientRange, read_record
from analysis.ingest.line_scan import scan
from analysis.ingest.line_shapes import ShapeReader
from analysis.ingest.log_groups import read_group, read_line
from analysis.ingest.run_files import Cursor, RawGroup
from core.errors import RecordError

IDS = ["8f507cfc-1111-4697-b07a-ac58fc914c95", "11111111-2222-3333-4444-555555555555", "no-id", "ABCDEF01-1111-4697"]
NUMBERS = ["0", "-0", "7", "-3", "007", "1e5", "1e-5", "12e45678", "1.5", "-0.0", "0.1000", "1.", "12345678901"]
LONG_NUMBERS = [
    "9007199254740993",
    "123456789012345678901",
    "0.12345678901234567",
    "1e999",
    "NaN",
    "true",
    "null",
    '"7"',
]
WORDS = [
    "success",
    "timeout",
    "deadbeef",
    "612e7696a6cecc1b",
    "5e346614",
    "2026",
    "2",
    "Runtime.ExitError",
    "é",
    "\\u0041",
]
TIMES = [
    "2026-11-24T10:00:00.250Z",
    "2028-02-29T23:59:59.999Z",
    "2026-02-29T10:00:00.000Z",
    "2026-11-24T10:00:00Z",
    "x",
]
VALUES = {"I": IDS, "N": NUMBERS + LONG_NUMBERS, "W": WORDS, "T": TIMES}
# Letters between signs of the currency are places for values.
MESSAGES = [
    '{"time":"¤T¤","type":"platform.start","record":{"requestId":"¤I¤","version":"$LATEST"}}',
    '{"time":"¤T¤","type":"platform.initStart","record":{"initializationType":"on-demand"}}',
    '{"time":"¤T¤","type":"platform.initReport","record":{"phase":"init","status":"¤W¤","metrics":{"durationMs":¤N¤}}}',
    (
        '{"time":"¤T¤","type":"platform.report","record":{"requestId":"¤I¤","metrics":{"durationMs":¤N¤,'
        '"billedDurationMs":¤N¤,"memorySizeMB":¤N¤,"initDurationMs":¤N¤},"status":"¤W¤","errorType":"¤W¤"}}'
    ),
    (
        '{"event": "inference", "weights": "¤W¤", "request_id": "¤I¤", "environment_id": "¤W¤", "call_number": ¤N¤, '
        '"initialization": "¤W¤", "inference_ms": ¤N¤, "handler_ms": ¤N¤, "phases": {"import_ms": ¤N¤}}'
    ),
    '{"level":"INFO","message":"{\\"event\\":\\"inference\\",\\"request_id\\":\\"¤I¤\\",\\"handler_ms\\":¤N¤}"}',
    (
        '{"type":"lab.conditions","time":"¤T¤","record":{"requestId":"¤I¤","limits":"¤W¤/¤W¤","timeScale":¤N¤,'
        '"hostContended":false,"majorPageFaults":¤N¤}}'
    ),
    "START RequestId: ¤I¤ Version: $LATEST",
    "REPORT RequestId: ¤I¤\tDuration: ¤N¤ ms\tBilled Duration: ¤N¤ ms\tMemory Size: ¤N¤ MB\tStatus: ¤W¤\t",
    "REPORT RequestId: ¤I¤ Duration: ¤N¤ ms Init Duration: ¤N¤ ms Max Memory Used: ¤N¤ MB",
    "REPORT RequestId: ¤I¤\tDuration: ¤N¤ ms\t\nXRAY TraceId: 1-¤W¤-¤W¤\tSampled: true",
    "INIT_REPORT Init Duration: ¤N¤ ms\tPhase: init\tStatus: timeout",
    "RequestId: ¤I¤ Error: exit status ¤N¤\n¤W¤",
    "¤T¤ ¤I¤ Task timed out after ¤N¤ seconds",
    "¤N¤ ¤I¤ Task timed out after ¤N¤ seconds",
    "¤N¤\n¤W¤ ¤I¤\\¤N¤",
    '{"event": "inference", "weights": ¤N¤, "request_id": "¤I¤", "environment_id": ¤N¤, "initialization": ¤N¤}',
]
EVENTS = [
    '{"logStreamName":"2026/¤N¤/24/[$LATEST]¤W¤","timestamp":1795514400¤D¤,"message":¤M¤,"eventId":"0¤D¤"}',
    '{"eventId": "¤N¤", "message": ¤M¤, "timestamp": 17955¤D¤, "logStreamName": "¤W¤"}',
]


@st.composite
def lines_alike(draw):
    """Some events of one form, perhaps of a damaged one, that differ in their values."""
    message, event = draw(st.sampled_from(MESSAGES)), draw(st.sampled_from(EVENTS))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(message) - 1))
        message = (
            message[:place] + draw(st.sampled_from(["", '"', "\\", "{", "5", "a", "\n", "-"])) + message[place + 1 :]
        )
    lines = []
    for _ in range(draw(st.integers(1, 5))):
        filled = event.replace("¤D¤", draw(st.sampled_from(["001", "250", "999"])))
        # The values of a form vary a little, so that several lines are of one shape.
        text = "".join(draw(values_of(part)) for part in message.split("¤"))
        filled = "".join(part if part == "M" else draw(values_of(part)) for part in filled.split("¤"))
        # `M` alone is the place of the message: no value and no other part of an event is that letter.
        lines.append(
            json.dumps(text, ensure_ascii=draw(st.booleans())).join(filled.split("M", 1)) if "M" in filled else filled
        )
    return lines


def values_of(part):
    return st.sampled_from(VALUES[part][:6]) | st.sampled_from(VALUES[part]) if part in VALUES else st.just(part)


def read(text, shapes=None):
    """Read two pages of the same text."""
    with TemporaryDirectory() as folder:
        group = RawGroup(Path(folder))
        group.save(Cursor("group", 0, 1, pages=2, done=True))
        for page in group.pages():
            page.write_bytes(gzip.compress(text, 1))
        try:
            return read_group(group, shapes)
        except RecordError:
            return None


def assert_read_alike(lines, shapes):
    text = "".join(line + "\n" for line in lines).encode()
    one_by_one, by_shape = read(text), read(text, shapes)
    assert (one_by_one is None) == (by_shape is None)
    if one_by_one is not None:
        assert by_shape.billed_bytes == one_by_one.billed_bytes
        assert by_shape.model == one_by_one.model
        wanted, found = one_by_one.invocations.sort("request_id"), by_shape.invocations.sort("request_id")
        assert_frame_equal(found, wanted, check_exact=True)


@given(groups=st.lists(lines_alike(), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_lines_read_by_shape_give_what_single_lines_give(groups):
    assert_read_alike([line for lines in groups for line in lines], ShapeReader(read_line, worth_learning=1))


@pytest.mark.slow
@given(groups=st.lists(lines_alike(), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_many_lines_read_by_shape_give_what_single_lines_give(groups):
    assert_read_alike([line for lines in groups for line in lines], ShapeReader(read_line, worth_learning=1))


def test_a_log_of_either_format_is_read_by_its_shapes_alone():
    shapes = ShapeReader(read_line, worth_learning=3)
    for start, report in (MESSAGES[0], MESSAGES[3]), (MESSAGES[7], MESSAGES[8]):
        messages = [
            text.replace("¤I¤", f"{number:08x}-1111-4697-b07a-ac58fc914c95")
            .replace("¤T¤", f"2026-11-24T10:00:0{number}.000Z")
            .replace("¤N¤", f"{number + 1}.25")
            .replace("¤W¤", "success")
            for number in range(9)
            for text in (start, report)
        ]
        events = [{"logStreamName": "2026/11/24/[$LATEST]ab", "timestamp": 1, "message": text} for text in messages]
        reading = shapes.read("".join(json.dumps(event) + "\n" for event in events).encode())
        assert reading.rest == b""
        assert sorted(len(some.lines) for some in reading.alike) == [9, 9]


@pytest.mark.parametrize(
    "environment",
    [
        "612e7696a6cecc1b",
        "0000000e00000000",
        "1234567e00000000",
        "8f507cfc-1111-4697-b07a-ac58fc914c95",
        "00000000000000012",
        "12345678901234567",
        "2026-11-24T10:00:00.250Z",
    ],
)
def test_an_environment_of_any_form_is_read_by_its_shape(environment):
    shapes = ShapeReader(read_line, worth_learning=3)
    line = EVENTS[0].replace("¤M¤", json.dumps(MESSAGES[4])).replace("¤I¤", IDS[0]).replace("¤D¤", "250")
    first, _, after = line.replace("¤N¤", "7.25").partition("environment_id")
    before = f"{first}environment_id"
    text = f"{before}{after.replace('¤W¤', environment, 1)}\n".replace("¤W¤", "word") * 5
    assert shapes.read(text.encode()).rest == b""


def test_a_number_in_place_of_a_text_is_read_as_in_single_lines():
    event = EVENTS[0].replace("¤D¤", "250").replace("¤N¤", "1").replace("¤W¤", "ab")
    numbers = {IDS[0]: "2.25", IDS[1]: "1.50"}
    messages = [MESSAGES[-1].replace("¤I¤", one).replace("¤N¤", number) for one, number in numbers.items()]
    lines = [event.replace("¤M¤", json.dumps(message)) for message in messages]
    assert_read_alike(lines, ShapeReader(read_line, worth_learning=1))


def test_a_shape_is_learned_from_the_lines_of_several_texts():
    shapes = ShapeReader(read_line, worth_learning=3)
    texts = [EVENTS[0].replace("¤D¤", f"00{number}").replace("¤M¤", '"the words"') for number in range(4)]
    readings = [shapes.read((text.replace("¤N¤", "1").replace("¤W¤", "ab") + "\n").encode()) for text in texts]
    assert [len(reading.others) for reading in readings] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("12", line_scan.INTEGER, 12),
        ("-12", line_scan.INTEGER, -12),
        ("1795514400250", line_scan.LONG_INTEGER, 1795514400250),
        ("0.1", line_scan.DECIMAL, 0.1),
        ("-1049.63", line_scan.DECIMAL, -1049.63),
        ("0.12345678901234567", line_scan.DECIMAL, math.nan),
        ("007", line_scan.PADDED_INTEGER, math.nan),
        ("12345678901234567890", line_scan.HUGE_INTEGER, math.nan),
        ("2028-02-29T23:59:59.999Z", line_scan.TIME, 1835481599.999),
        ("8f507cfc-1111-4697-b07a-ac58fc914c95", line_scan.UUID, math.nan),
        ("612e7696a6cecc1b", line_scan.HEXADECIMAL, math.nan),
        ("00e00e00", line_scan.HEXADECIMAL, math.nan),
        ("e1234567", line_scan.HEXADECIMAL, math.nan),
        ("1234567e", line_scan.HEXADECIMAL, math.nan),
        ("5e346614", line_scan.EXPONENTIAL, math.nan),
        ("05e34661", line_scan.PADDED_EXPONENTIAL, math.nan),
    ],
)
def test_a_token_has_a_class_and_a_value(text, kind, value):
    tokens = scan(f'{{"k":"{text}"}}\n'.encode())
    assert (tokens.kinds.tolist(), tokens.starts.tolist(), tokens.stops.tolist()) == ([kind], [6], [6 + len(text)])
    assert tokens.values[0] == value or (math.isnan(value) and math.isnan(tokens.values[0]))


@pytest.mark.parametrize(
    "word", ["-0", "1e5", "1234567890123456", "1.", ".5", "1.2.3", "00.5", "cafe", "x12", "DEADBEEF01"]
)
def test_a_word_that_could_be_read_in_two_ways_is_no_token(word):
    assert scan(f" {word}\n".encode()).kinds.tolist() == []


FACTS = (
    '{"weights":"random","environment_id":"¤W¤","call_number":¤N¤,"inference_ms": ¤N¤,"handler_ms":¤N¤,'
    '"phases":{"import_ms":¤N¤,"load_ms":null}}'
)
RECORD = (
    '{"schema_version":1,"run_id":"¤W¤","call_id":"load/resnet50-¤N¤/¤W¤","experiment":"load","variant":"resnet50-512",'
    '"memory_mb":512,"warmup":false,"intended_at":17950000¤D¤.¤D¤,"sent_at":¤N¤,"http_status":¤N¤,"outcome":"ok",'
    '"error":"¤W¤","request_id":"¤I¤","gateway_request_id":"¤I¤","handler":¤H¤,"time_scale":1.0}'
)
FILLED = {
    **VALUES,
    "D": ["00", "25", "1234567"],
    "N": ["0", "-3", "7", "200", "1500000000", "5000000000", "0.1", "-0.25", "1795000000.1234567", "null", "true"],
}


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_client_records_read_by_shape_are_what_json_makes_of_them(tmp_path_factory, data):
    lines = []
    for _ in range(data.draw(st.integers(1, 3))):
        form = RECORD.replace("¤H¤", data.draw(st.sampled_from(["null", FACTS])))
        for _ in range(data.draw(st.integers(1, 4))):
            parts = form.split("¤")
            lines.append(
                "".join(data.draw(st.sampled_from(FILLED[part])) if part in FILLED else part for part in parts)
            )
    path = tmp_path_factory.mktemp("clients") / "load.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines) + data.draw(st.sampled_from(["", "\n", '{"torn'])))
    part = ClientRange(path, 0, path.stat().st_size)

    def read(shapes=None):
        try:
            return part.read(shapes)
        except RecordError:
            return None

    one_by_one, by_shape = read(), read(ShapeReader(read_record, worth_learning=1))
    assert (one_by_one is None) == (by_shape is None)
    if one_by_one is not None:
        assert_frame_equal(by_shape, one_by_one, check_exact=True)
