"""Whether two measurements were made at the same place, and under the same conditions."""

from __future__ import annotations

from typing import Final

from core.errors import RecordError
from core.run.records import EndpointFacts, Manifest

# Fields of EndpointFacts. The identity says where logs are; conditions change figures, wherever they are measured.
IDENTITY: Final = ("source", "account_id", "region", "host")
CONDITIONS: Final = ("host_cpus", "limits", "time_scale", "isa_cap")
# Calls are added to a run where nothing differs: figures of two places in one run could not be told apart.
MEASURING: Final = (*IDENTITY, *CONDITIONS)
# Runs of two accounts can be compared: it is the same hardware.
COMPARABLE: Final = ("source", "region", "host", *CONDITIONS)


def check_same_place(run: Manifest, here: EndpointFacts, *, names: tuple[str, ...], hint: str) -> None:
    """Raise RecordError naming the first of these fields in which a run's place differs from this one."""
    for name in names:
        then, now = getattr(run.endpoint, name), getattr(here, name)
        if then != now:
            raise RecordError(f"run {run.run_id} was measured where {name} is {then!r}; here it is {now!r}", hint=hint)
