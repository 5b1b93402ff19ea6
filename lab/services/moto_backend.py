"""What every extended backend needs to stay a backend of moto."""

from __future__ import annotations

import importlib
from typing import Any

from moto.core.exceptions import ServiceException


class MotoUrls:
    """First base of our backends: moto finds a backend's routes next to the module of its class."""

    @property
    def _url_module(self) -> Any:
        """The routes of the moto class we extend; moto 5.2.5 looks next to this one instead."""
        module = next(base.__module__ for base in type(self).__mro__ if base.__module__.startswith("moto."))
        return importlib.import_module(module.replace(".models", ".urls"))


def error_code(error: Exception) -> str:
    """Return AWS's code of an error that moto raised, or "" for any other exception."""
    if isinstance(error, ServiceException):
        return str(error.code)
    return str(getattr(error, "error_type", ""))  # moto 5.2.5's older errors
