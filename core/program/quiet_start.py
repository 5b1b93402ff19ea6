"""Imported first by every command: Ctrl-C while the rest is imported ends it at once and without a traceback.

`core.errors.run_command` gives Ctrl-C its usual meaning again, once there is something to end in order.
"""

import signal

from core.errors import leave_at_once

# Not SIG_DFL: Polars takes the handler that it finds, and with that one none would ever be called.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, leave_at_once)
