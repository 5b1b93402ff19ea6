"""What a person is told of a deployment, from what the CDK command line printed."""

from __future__ import annotations

import re

from demo.deploying import deployed_so_far

SYNTHESISED = "\n✨  Synthesis time: 11.82s\n\n"
TEMPLATES = """inference-lab: start: Building FunctionsOnnxruntime Nested Stack Template
inference-lab: success: Built FunctionsOnnxruntime Nested Stack Template
inference-lab: start: Building inference-lab Template
inference-lab: success: Built inference-lab Template
"""
FIRST = "inference-lab: start: Building resnet50-onnxruntime\n"
SECOND = "inference-lab: start: Building mobilenet-onnxruntime\nStep 1/10 : FROM ${BASE_IMAGE}\n"
FIRST_BUILT = "inference-lab: success: Built resnet50-onnxruntime\n"
SECOND_BUILT = "inference-lab: success: Built mobilenet-onnxruntime\n"
RESOURCES = "inference-lab |  {} | 2:24:58 PM | CREATE_COMPLETE | AWS::IAM::Role | Role\n"


def test_the_share_grows_with_each_thing_that_is_done():
    printed, shares = "", []
    for more in (
        "",
        SYNTHESISED,
        TEMPLATES,
        FIRST,
        SECOND,
        FIRST_BUILT,
        SECOND_BUILT,
        RESOURCES.format("0/40"),
        RESOURCES.format("30/40"),
    ):
        printed += more
        shares.append(deployed_so_far(printed, 2).share)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1
    assert len(set(shares)) == 5  # what has only begun counts for nothing


def test_what_is_built_now_is_named():
    printed = SYNTHESISED + TEMPLATES + FIRST + SECOND + FIRST_BUILT
    assert re.search(r"1 of 2 .*mobilenet-onnxruntime", deployed_so_far(printed, 2).doing)
    printed += SECOND_BUILT + RESOURCES.format("12/40")
    assert deployed_so_far(printed, 2).doing == "creating resources, 12 of 40"
