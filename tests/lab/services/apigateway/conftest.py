import pytest
from moto import mock_aws

from tests.lab.services.apigateway.helpers import Api, MemoryInvoker


@pytest.fixture
def control_plane():
    with mock_aws():
        yield


@pytest.fixture
def api(control_plane):
    return Api()


@pytest.fixture
def invoker():
    return MemoryInvoker()
