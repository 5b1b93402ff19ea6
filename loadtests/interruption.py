"""Ctrl-C in a process of greenlets."""

from __future__ import annotations

import signal

import gevent


def interrupt_main_greenlet() -> None:
    """Raise Ctrl-C's KeyboardInterrupt in the main greenlet alone.

    Python raises it in whichever greenlet runs at that moment, which may be writing a record. Where SIGINT is ignored
    or handled otherwise, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        gevent.signal_handler(signal.SIGINT, gevent.get_hub().handle_system_error, KeyboardInterrupt, None)
