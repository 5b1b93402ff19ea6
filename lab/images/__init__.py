"""Images without a container engine: what the CDK command line calls as `docker`, and where it leaves them."""

from __future__ import annotations

from lab.images.image_store import DirectoryImageStore

__all__ = ["DirectoryImageStore"]
