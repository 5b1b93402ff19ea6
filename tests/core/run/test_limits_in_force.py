"""Which limits allow a comparison of memory sizes."""

from __future__ import annotations

import pytest

from core.run.records import LimitsInForce


@pytest.mark.parametrize(
    ("cpu", "memory", "named"),
    [("aws", "aws", "aws"), ("duty-cycle", "duty-cycle", "duty-cycle"), ("cgroup-v1", "none", "cgroup-v1/none")],
)
def test_a_record_names_what_enforces_limits_once(cpu, memory, named):
    assert LimitsInForce(driver="process", cpu=cpu, memory=memory, freezer="signal").mechanism == named


@pytest.mark.parametrize(
    ("cpu", "memory", "missing"),
    [
        ("aws", "aws", ()),
        ("cgroup-v2", "cgroup-v2", ()),
        ("duty-cycle", "duty-cycle", ()),
        ("cgroup-v1", "none", ("memory",)),
        ("none", "cgroup-v1", ("cpu",)),
        ("none", "none", ("cpu", "memory")),
    ],
)
def test_memory_sizes_are_comparable_only_if_cpu_and_memory_are_enforced(cpu, memory, missing):
    limits = LimitsInForce(driver="process", cpu=cpu, memory=memory, freezer="signal")
    assert limits.not_enforced == missing
    assert limits.memory_sizes_are_comparable is (missing == ())
