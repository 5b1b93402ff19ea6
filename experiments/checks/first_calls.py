"""Find the first call of a newly deployed image, which starts slower than any later cold start.

Lambda does not say when an image was first called, so this is put together from what it does say, strongest first:
a log group without streams was never written to; a note of ours that this image was called before; a log that has been
silent since the function was last modified.
"""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Final

from core import strict_json
from core.run.records import EndpointFacts
from core.run.run_directory import write_atomically
from core.variants import Variant
from experiments.aws.function_logs import FunctionLogs
from experiments.aws.lambda_control import LambdaControl

NOTES_FILE: Final = "called-images.json"


class CalledImages:
    """Notes, kept next to the runs, of which image each function had when it was last called."""

    def __init__(self, results: Path, endpoint: EndpointFacts) -> None:
        self._path = results / NOTES_FILE
        self._place = "|".join((endpoint.source, endpoint.endpoint_url or "", endpoint.account_id, endpoint.region))

    def digest(self, function_name: str) -> str | None:
        """Digest of the image that was called, or None where no call was noted."""
        note = self._read().get(self._key(function_name))
        return note["digests"][-1] if note else None

    def uris(self) -> set[str]:
        """Images that were called at this endpoint."""
        notes = self._read()
        return {uri for key, note in notes.items() if key.startswith(self._key("")) for uri in note["uris"] if uri}

    def note(self, function_name: str, *, digest: str, uri: str) -> None:
        notes = self._read()
        key = self._key(function_name)
        before = notes.get(key, {"digests": [], "uris": []})
        # In the order of calls, each once: the last digest is the one deployed then, the URIs are what may be left.
        notes[key] = {
            "digests": [*(other for other in before["digests"] if other != digest), digest],
            "uris": [*(other for other in before["uris"] if other != uri), uri],
        }
        write_atomically(self._path, strict_json.dumps(notes, indent=1) + "\n")

    def _read(self) -> dict[str, dict[str, list[str]]]:
        """All notes; a file that cannot be read counts as none, since the logs are asked first."""
        try:
            notes = strict_json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    def _key(self, function_name: str) -> str:
        return f"{self._place}|{function_name}"


class FirstCalls:
    """Tells the first call of each variant's image apart, once."""

    def __init__(self, control: LambdaControl, logs: FunctionLogs, notes: CalledImages) -> None:
        self._control = control
        self._logs = logs
        self._notes = notes
        self._settled: dict[str, bool] = {}
        self._lock = threading.Lock()

    def is_first(self, variant: Variant) -> bool:
        """Whether the image that is deployed now has not been called yet. Asks AWS once a variant."""
        with self._lock:
            if variant.key not in self._settled:
                self._settled[variant.key] = self._ask(variant)
            return self._settled[variant.key]

    def called(self, variant: Variant) -> None:
        """A call was sent: from here on none is the first."""
        with self._lock:
            if self._settled.get(variant.key) is not False:
                self._notes.note(
                    self._control.function_name(variant),
                    digest=self._digest(variant),
                    uri=self._control.image_of(variant),
                )
            self._settled[variant.key] = False

    def _ask(self, variant: Variant) -> bool:
        if variant.alias is None and not self._logs.ever_called(variant):
            return True
        if self._notes.digest(self._control.function_name(variant)) == self._digest(variant):
            return False
        if variant.alias is not None:
            return True  # publishing its version logs an init: the logs do not tell
        found = self._control.configuration_of(variant) or {}
        modified = datetime.fromisoformat(found["LastModified"])  # 2026-11-24T10:15:00.000+0000
        return not self._logs.called_since(variant, modified.timestamp())

    def _digest(self, variant: Variant) -> str:
        found = self._control.configuration_of(variant) or {}
        return str(found.get("CodeSha256", ""))
