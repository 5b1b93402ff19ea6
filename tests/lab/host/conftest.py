from tests.lab.dataplane.conftest import lab  # noqa: F401 - a fixture
