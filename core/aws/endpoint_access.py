"""How a caller of the REST endpoint shows who it is: by an API key, or by a signature of its own AWS credentials."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
from botocore.exceptions import BotoCoreError, NoCredentialsError

from core.errors import CloudError

API_KEY_HEADER: Final = "x-api-key"
SIGNED_SERVICE: Final = "execute-api"
# AWS accepts a signature for five minutes. One that is kept for a while costs a load no CPU.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
SIGNATURE_KEPT_S: Final = 60.0


@dataclass(frozen=True)
class Access:
    """What a REST endpoint asks of its callers: `key`, or "" where a caller signs for `region`."""

    key: str = field(default="", repr=False)  # belongs in no log and no record
    region: str = ""


def headers_of(access: Access, url: str) -> Callable[[], Mapping[str, str]]:
    """Return what makes the headers that a GET of `url` has to carry at the time of the call.

    Calling it raises CloudError where there are no credentials to sign with.
    """
    if access.key:
        headers = {API_KEY_HEADER: access.key}
        return lambda: headers
    return _Signature(url, access.region)


class _Signature:
    """Signature Version 4 of a GET without a body, renewed in time."""

    def __init__(self, url: str, region: str) -> None:
        self._url = url
        self._region = region
        self._signed_at = -SIGNATURE_KEPT_S
        self._headers: Mapping[str, str] = {}

    def __call__(self) -> Mapping[str, str]:
        if time.monotonic() - self._signed_at >= SIGNATURE_KEPT_S:
            request = botocore.awsrequest.AWSRequest(method="GET", url=self._url)
            try:
                # Credentials of a role or of SSO are renewed here when they are about to end.
                signer = botocore.auth.SigV4Auth(_credentials().get_frozen_credentials(), SIGNED_SERVICE, self._region)
                signer.add_auth(request)
            except BotoCoreError as error:
                raise CloudError(
                    f"the request cannot be signed: {error}", hint="Sign in again, then resume the run."
                ) from None
            self._headers = dict(request.headers.items())
            self._signed_at = time.monotonic()
        return self._headers


@functools.cache
def _credentials() -> botocore.credentials.Credentials:
    """Return the credentials that every AWS tool of this process uses; they know how to renew themselves."""
    found = botocore.session.get_session().get_credentials()
    if found is None:
        raise NoCredentialsError
    return found
