"""What makes two places different, for each use."""

import pytest

from core.configuration import read_configuration
from core.errors import RecordError
from core.run.manifest import new_manifest
from core.run.place import COMPARABLE, CONDITIONS, IDENTITY, MEASURING, check_same_place
from core.run.records import EndpointFacts, LimitsInForce


@pytest.fixture(scope="module")
def manifest():
    limits = LimitsInForce(driver="process", cpu="cgroup-v1", memory="cgroup-v1", freezer="cgroup-v1")
    endpoint = EndpointFacts(
        source="lab",
        endpoint_url="http://localhost:4566",
        account_id="1" * 12,
        region="eu-central-1",
        host="here",
        host_cpus=2.0,
        limits=limits,
    )
    return new_manifest("20980101T000000Z-0000", read_configuration(), endpoint, ("warm",))


OTHER = {"source": "aws", "account_id": "2" * 12, "region": "us-east-1", "host": "another", "host_cpus": 64.0}


@pytest.mark.parametrize(("name", "value"), OTHER.items())
def test_a_run_of_another_place_is_refused_by_the_field(manifest, name, value):
    here = manifest.endpoint.model_copy(update={name: value})
    with pytest.raises(RecordError, match=f"where {name} is"):
        check_same_place(manifest, here, names=MEASURING, hint="")


def test_logs_are_fetched_under_other_conditions(manifest):
    here = manifest.endpoint.model_copy(update={"host_cpus": 64.0, "time_scale": 60.0})
    check_same_place(manifest, here, names=IDENTITY, hint="")


def test_every_field_is_one_of_an_endpoint():
    assert {*IDENTITY, *CONDITIONS, *COMPARABLE} <= set(EndpointFacts.model_fields)
