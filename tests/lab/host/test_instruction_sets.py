"""Which instruction sets a host has, and that engines are kept to Lambda's."""

from __future__ import annotations

import pytest

from lab.contracts import FunctionConfiguration, Image
from lab.dataplane.variables import function_variables
from lab.host.instruction_sets import AVX2_VARIABLES, TELLING, host_isa, told_by

X86 = "processor\t: 0\nmodel name\t: CPU\nflags\t\t: fpu sse2 avx avx2 fma avx512f avx512_vnni amx_int8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp i8mm\n"


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [(X86, ("avx2", "fma", "avx512f", "avx512_vnni", "amx_int8")), (ARM, ("asimd", "asimddp", "i8mm")), ("", ())],
)
def test_the_kernels_flags_tell_what_a_forward_pass_can_use(cpuinfo, found):
    assert told_by(cpuinfo) == found
    assert set(host_isa()) <= set(TELLING)


def test_an_image_may_set_its_own_cap(function_configuration):
    capped = function_variables(function_configuration, IMAGE, "stream", AVX2_VARIABLES)
    assert capped["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    own = Image("x", None, ("handler.handler",), {"ONEDNN_MAX_CPU_ISA": "SSE41"})
    assert function_variables(function_configuration, own, "stream", AVX2_VARIABLES)["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    assert "ONEDNN_MAX_CPU_ISA" not in function_variables(function_configuration, IMAGE, "stream", {})


IMAGE = Image("x", None, ("handler.handler",), {})


@pytest.fixture
def function_configuration():
    return FunctionConfiguration(
        name="f",
        arn="arn:aws:lambda:us-east-1:000000000000:function:f",
        region="us-east-1",
        revision="1",
        image_uri="x",
        memory_mb=512,
        timeout_s=3.0,
        environment={},
        log_group="/aws/lambda/f",
        log_format="Text",
        application_log_level="INFO",
        system_log_level="INFO",
        reserved_concurrency=None,
        maximum_retry_attempts=0,
        maximum_event_age_s=60,
    )
