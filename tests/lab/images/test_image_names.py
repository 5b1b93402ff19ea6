"""One image has one name, whatever domain a client gives the lab's registry."""

from __future__ import annotations

from pathlib import Path

import botocore.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.images.image_store import canonical_reference
from tests.lab.robustness.support import deploy, invoke
from tests.lab_support import running_lab

DOMAINS = ["amazonaws.com", "localhost", "localhost:4566", "localhost.localstack.cloud:4566", "amazonaws.com.cn"]
DOCKERFILE = """\
FROM public.ecr.aws/lambda/python:3.12
COPY handler.py ${LAMBDA_TASK_ROOT}/
CMD ["handler.handler"]
"""
HANDLER = "def handler(event, context):\n    return {name!r}\n"


@given(domain=st.sampled_from(DOMAINS), rest=st.from_regex(r"[a-z0-9/_-]{1,30}(:[a-z0-9]{1,9}|@sha256:[0-9a-f]{64})"))
def test_the_domain_of_a_registry_does_not_tell_images_apart(domain: str, rest: str) -> None:
    given_name = f"123456789012.dkr.ecr.eu-west-1.{domain}/{rest}"
    assert canonical_reference(given_name) == f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{rest}"


@pytest.mark.parametrize("name", ["local:tag", "public.ecr.aws/lambda/python:3.12", "a/123456789012.dkr.ecr.r.x/y:z"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert canonical_reference(name) == name


@pytest.mark.slow
def test_a_hot_swap_runs_the_new_image_and_an_unknown_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_IMAGES", str(tmp_path / "images"))
    with running_lab(state=tmp_path / "state") as lab:
        client = lab.client("lambda")
        for name in ("one", "two"):
            context = tmp_path / name
            context.mkdir()
            (context / "Dockerfile").write_text(DOCKERFILE)
            (context / "handler.py").write_text(HANDLER.format(name=name))
            deploy(lab, name, rest=False, directory=context)
        function = client.get_function(FunctionName="two")
        # What `cdk deploy --hotswap` sends: the registry's domain is the host of the endpoint.
        swapped = function["Code"]["ImageUri"].replace("amazonaws.com", "localhost")
        one = client.get_function_configuration(FunctionName="one")
        client.update_function_code(FunctionName="one", ImageUri=swapped, RevisionId=one["RevisionId"])
        assert invoke(lab, "one", {}) == (None, "two")

        with pytest.raises(botocore.exceptions.ClientError, match="Provide a valid source image"):
            client.update_function_code(FunctionName="one", ImageUri=swapped + "-missing")
        assert invoke(lab, "one", {}) == (None, "two")
