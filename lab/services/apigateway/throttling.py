"""Token buckets.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html
"""

from __future__ import annotations

from collections.abc import Hashable

from lab.services.apigateway.api import Throttle


class TokenBucket:
    """Holds at most `burst` tokens and gains `rate_rps` a second; a request takes one. Times are monotonic seconds."""

    def __init__(self, throttle: Throttle, now: float) -> None:
        self.throttle = throttle
        self._tokens = float(throttle.burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        elapsed = max(0.0, now - self._at)
        self._at = max(now, self._at)
        self._tokens = min(float(self.throttle.burst), self._tokens + elapsed * self.throttle.rate_rps)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Buckets:
    """Token buckets by what they limit; one whose numbers changed starts full."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, TokenBucket] = {}

    def take(self, key: Hashable, throttle: Throttle, now: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None or bucket.throttle != throttle:
            bucket = self._buckets[key] = TokenBucket(throttle, now)
        return bucket.take(now)
