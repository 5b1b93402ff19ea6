"""Calls of a load that was interrupted and restarted: told apart, so that no figure mixes two attempts. No I/O.

A load stage, one variant under the whole shape, is restarted when the run is resumed. What the first attempt sent is
kept and labeled: it met lower rates than the whole shape has, and ended because its sender did, so neither its
latencies nor its lost calls say anything of the function.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import polars as pl

from core.run.stages import NUMBER_IN_STAGE, RESTARTED

_STAGE: Final = "stage"


def label_broken_off(clients: pl.DataFrame, whole_stages: Collection[str]) -> pl.DataFrame:
    """Client records of one variant, with the protocol `broken_off` where the load was restarted later.

    `whole_stages` names the stages that finished, by the prefix of their call ids. If none of
    the variant finished, its latest attempt counts.
    """
    arrivals = (pl.col("experiment") == "load") & ~pl.col("warmup")
    load = clients.filter(arrivals).select("call_id", "intended_at")
    if load.height == 0:
        return clients
    of_stage = pl.col("call_id").str.replace(NUMBER_IN_STAGE, "")
    begun = load.group_by(of_stage.alias(_STAGE)).agg(pl.col("intended_at").min()).sort("intended_at")[_STAGE].to_list()
    counting = [name for name in begun if name in whole_stages] or begun[-1:]
    if len(counting) == len(begun):
        return clients
    broken_off = arrivals & ~of_stage.is_in(counting)
    protocol = pl.when(broken_off).then(pl.lit(RESTARTED)).otherwise(pl.col("protocol").cast(pl.String))
    return clients.with_columns(protocol.cast(clients.schema["protocol"]).alias("protocol"))
