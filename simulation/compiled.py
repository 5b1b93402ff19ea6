"""The one place that knows how this room is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function to machine code on its first call and keep the result on disk for the next process."""
    return cast("Function", numba.njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Compile a function as a part of those that call it: a call of its own costs more than a few steps take."""
    return cast("Function", numba.njit(inline="always")(function))
