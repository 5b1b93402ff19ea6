"""Labs of one checkout share a store of images: none may take away what another needs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lab.images.image_store import DirectoryImageStore, ImageError
from tests.lab.robustness.support import deploy, invoke
from tests.lab_support import Lab, running_lab, start_lab

HANDLER = "def handler(event, context):\n    return {name!r}\n"


def function_of(directory: Path, name: str) -> Path:
    context = directory / f"context-{name}"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM public.ecr.aws/lambda/python:3.12\nCOPY handler.py ${LAMBDA_TASK_ROOT}/\nCMD ["handler.handler"]\n'
    )
    (context / "handler.py").write_text(HANDLER.format(name=name))
    return context


def reference(lab: Lab, name: str) -> str:
    uri: str = lab.client("lambda").get_function(FunctionName=name)["Code"]["ImageUri"]
    return uri


@pytest.mark.slow
def test_what_a_living_lab_was_given_outlives_another_labs_clean_up_and_a_killed_labs_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_IMAGES", str(tmp_path / "images"))
    store = DirectoryImageStore(tmp_path / "images")
    first = start_lab(state=tmp_path / "first")
    try:
        with running_lab(state=tmp_path / "second") as second:
            for lab, name in ((first, "one"), (second, "two")):
                deploy(lab, name, rest=False, directory=function_of(tmp_path, name))
            one, two = reference(first, "one"), reference(second, "two")
            # The clean-up of the second lab, before the first one has run its function at all.
            with pytest.raises(ImageError, match=f"in use by the lab at port {first.port}"):
                store.remove_name(one)
            assert store.remove_name(one, force=True)
            assert store.remove_name(two, force=True)
            assert store.prune() == 0
            assert {port for port, _, _ in store.leased()} == {first.port, second.port}
            # It needs its name to start environments; a push gives it back, and its content never went.
            deployed = store.read_content(next(identity for _, name, identity in store.leased() if name == one))
            assert deployed is not None
            store.name(one, type(deployed)(**{**vars(deployed), "pushed": True}))
            assert invoke(first, "one", {}) == (None, "one")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            assert {port for port, _, _ in store.leased()} == {second.port}
            assert store.remove_name(one)
            assert store.prune() > 0
            (left,) = (tmp_path / "images" / "contents").iterdir()
            assert json.loads((left / "image.json").read_bytes())["id"] == next(i for _, _, i in store.leased())
    finally:
        if first.process.poll() is None:
            first.stop()
    assert list(store.leased()) == []
    assert list((tmp_path / "images" / "leases").iterdir()) == []
    assert store.prune() > 0


def test_tagging_an_image_that_is_pushed_already_takes_it_from_nobody(tmp_path: Path) -> None:
    from tests.lab.images.test_building import docker

    context = function_of(tmp_path, "same")
    store = DirectoryImageStore(tmp_path / "images")
    assert docker(tmp_path, "build", "--tag", "built", str(context)).returncode == 0
    name = "123456789012.dkr.ecr.us-east-1.amazonaws.com/assets:hash"
    for arguments in (("tag", "built", name), ("push", name), ("tag", "built", name)):
        assert docker(tmp_path, *arguments).returncode == 0
    assert store.resolve(name) is not None
    (context / "handler.py").write_text(HANDLER.format(name="another"))
    assert docker(tmp_path, "build", "--tag", "built", str(context)).returncode == 0
    assert docker(tmp_path, "tag", "built", name).returncode == 0
    assert DirectoryImageStore(tmp_path / "images").resolve(name) is None, "another image under the name is not pushed"
