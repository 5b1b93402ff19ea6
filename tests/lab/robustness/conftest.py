import pytest

from tests.lab.robustness.support import deploy, new_name
from tests.lab_support import running_lab


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """One store of images for the labs of this folder."""
    variables = {"LAB_IMAGES": str(tmp_path_factory.mktemp("images"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_IMAGES", variables["LAB_IMAGES"])  # for the stand-in for docker, which tests start themselves
        yield variables


class Shared(tuple):
    """(lab, name of its function, id of its REST API); short where hypothesis prints it."""

    __slots__ = ()

    def __repr__(self):
        return f"Shared(port={self[0].port})"


@pytest.fixture(scope="session")
def shared(images, tmp_path_factory):
    """A lab for tests that leave it as they found it."""
    # More than a small machine's memory allows by the lab's own reckoning: environments of these tests are small.
    arguments = ("--account-concurrency", "200")
    with running_lab(state=tmp_path_factory.mktemp("state"), variables=images, arguments=arguments) as lab:
        name = new_name()
        yield Shared((lab, name, deploy(lab, name)))
