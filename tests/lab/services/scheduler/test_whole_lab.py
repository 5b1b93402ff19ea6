"""A schedule in a whole lab: from boto3 to the function's log, faster by the lab's time scale."""

import json
import time

import pytest

from tests.lab.robustness.support import deploy, log_lines, new_name, wait_until
from tests.lab_support import running_lab


@pytest.mark.slow
def test_a_schedule_fires_a_function_as_often_as_its_dates_and_the_time_scale_say(tmp_path):
    images = {"LAB_IMAGES": str(tmp_path / "images")}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_lab(state=tmp_path / "state", arguments=("--time-scale", "60"), variables=images) as lab,
    ):
        patch.setenv("LAB_IMAGES", images["LAB_IMAGES"])
        name = new_name()
        deploy(lab, name, rest=False)
        arn = lab.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
        client = lab.client("scheduler")
        client.list_schedules()  # loads what the first request loads
        start = int(time.time()) + 30  # a busy machine takes seconds to create the schedule
        client.create_schedule(
            Name="every-minute",
            ScheduleExpression="rate(1 minutes)",
            FlexibleTimeWindow={"Mode": "OFF"},
            StartDate=start,
            EndDate=start + 4,
            Target={
                "Arn": arn,
                "RoleArn": "arn:aws:iam::123456789012:role/r",
                "Input": json.dumps({"do": "print_event", "at": "<aws.scheduler.scheduled-time>"}),
            },
        )
        # A minute of the schedule is a second here: four fires lie in [start, start + 4).
        wait_until(lambda: len(log_lines(lab, name, '"REPORT RequestId"')) >= 4, "four REPORT lines")
        wait_until(lambda: time.time() > start + 5.5, "the time in which a fifth and a sixth would have come")
        assert len(log_lines(lab, name, '"REPORT RequestId"')) == 4
        sent = [json.loads(line)["at"] for line in log_lines(lab, name, "print_event")]
        expected = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + step)) for step in range(4)]
        assert sorted(sent) == expected
