"""What a request to the REST endpoint carries: its key, or a signature that the endpoint can recompute."""

import hashlib
import hmac
import re
import time
from urllib.parse import urlsplit

import pytest

from core.aws import endpoint_access
from core.aws.endpoint_access import SIGNATURE_KEPT_S, Access, headers_of
from core.errors import CloudError

URL = "https://abc.execute-api.eu-central-1.amazonaws.com/v1/resnet50/arm64/1024"
SECRET = "a-secret-of-this-test"


@pytest.fixture
def credentials(monkeypatch):
    endpoint_access._credentials.cache_clear()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    yield monkeypatch
    endpoint_access._credentials.cache_clear()


def signature_of(url, headers):
    """Return the signature as the receiver computes it from what arrived.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    scope, signed = re.search(r"Credential=[^/]+/(\S+), SignedHeaders=(\S+),", headers["Authorization"]).groups()
    arrived = {name.lower(): value for name, value in headers.items()} | {"host": urlsplit(url).netloc}
    canonical = "\n".join(
        [
            *("GET", urlsplit(url).path, ""),
            *(f"{name}:{arrived[name]}" for name in signed.split(";")),
            *("", signed, hashlib.sha256(b"").hexdigest()),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(("AWS4-HMAC-SHA256", arrived["x-amz-date"], scope, digest))
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_an_endpoint_with_a_key_gets_the_key_and_no_text_of_it_shows_the_key():
    access = Access(key="secret-of-the-endpoint")
    assert headers_of(access, URL)() == {"x-api-key": "secret-of-the-endpoint"}
    assert "secret-of-the-endpoint" not in repr(access)


@pytest.mark.parametrize("token", ["", "token-of-a-session"])
@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:4566/_aws/execute-api/abc/v1/mobilenet/1769"])
def test_a_signed_request_carries_what_its_receiver_computes(credentials, token, url):
    if token:
        credentials.setenv("AWS_SESSION_TOKEN", token)
    headers = headers_of(Access(region="eu-central-1"), url)()
    assert headers["Authorization"].endswith(f"Signature={signature_of(url, headers)}")
    assert "/eu-central-1/execute-api/aws4_request" in headers["Authorization"]
    assert headers.get("X-Amz-Security-Token", "") == token
    assert SECRET not in str(headers)


def test_a_signature_is_kept_for_a_while_and_then_renewed(credentials):
    now_s = time.monotonic()
    credentials.setattr(time, "monotonic", lambda: now_s)
    headers = headers_of(Access(region="eu-central-1"), URL)
    first = headers()
    now_s += SIGNATURE_KEPT_S - 1
    assert headers() is first
    now_s += 1
    assert headers() is not first


def test_without_credentials_a_request_cannot_be_signed(credentials, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        credentials.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        credentials.setenv(name, str(tmp_path / "none"))
    credentials.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CloudError, match="cannot be signed"):
        headers_of(Access(region="eu-central-1"), URL)()
