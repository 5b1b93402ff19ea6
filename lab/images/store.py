"""The images of this machine's labs: what was built, by content, and under which names it was tagged and pushed.

One directory for all labs of a checkout (`.lab/images`, or LAB_IMAGES), as there is one engine's store for all programs
of a machine. Below it:

    contents/<id>/root/        the image's LAMBDA_TASK_ROOT
    contents/<id>/image.json   its command and environment; written before the folder gets its name
    steps/<key>/root/          what a slow step of a Dockerfile left behind, so that it runs once
    names/<reference>.json     one file a name; a name is never half written
    building/<name>/           what is being made; its builder holds a lock on it, an unlocked one is a dead builder's

A folder below `contents` or `steps` appears by a rename when it is whole, so a kill at any moment leaves the store as
it was. Folders are never changed afterwards: environments run from them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmark.configuration import DEFAULT_PATH
from benchmark.errors import UserError
from benchmark.store import write_atomically
from lab.contracts import Image

IMAGES_VARIABLE: Final = "LAB_IMAGES"
DEFAULT_DIRECTORY: Final = DEFAULT_PATH.parent / ".lab" / "images"
TASK_ROOT: Final = "/var/task"  # LAMBDA_TASK_ROOT of AWS's base images


class ImageError(UserError):
    """An image is not there, or its store cannot be used."""


@dataclass(frozen=True)
class ImageRecord:
    """An image as a name refers to it: `engine` is "" for one that the lab built, else "docker" or "podman"."""

    id: str  # "sha256:..."
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    platform: str = ""
    engine: str = ""
    pushed: bool = False


def images_directory() -> Path:
    """LAB_IMAGES, or `.lab/images` of this checkout."""
    given = os.environ.get(IMAGES_VARIABLE)
    return Path(given).resolve() if given else DEFAULT_DIRECTORY


class DirectoryImageStore:
    """Implements `lab.contracts.ImageStore`, and what the stand-in for docker needs to fill it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or images_directory()
        self._resolved: dict[str, tuple[tuple[int, int], Image]] = {}

    # -- names

    def resolve(self, image_uri: str) -> Image | None:
        """The pushed image of this URI (`repository:tag`, or `repository@sha256:...`), or None."""
        path = self._name_path(image_uri)
        try:
            status = path.stat()
        except OSError:
            return self._by_digest(image_uri)
        stamp = (status.st_mtime_ns, status.st_ino)
        known = self._resolved.get(image_uri)
        if known is not None and known[0] == stamp:
            return known[1]
        record = self.find(image_uri)
        if record is None or not record.pushed:
            return None
        image = self._image(image_uri, record)
        if image is not None:
            self._resolved[image_uri] = (stamp, image)
        return image

    def find(self, reference: str) -> ImageRecord | None:
        """What a name refers to, pushed or not."""
        try:
            values = json.loads(self._name_path(reference).read_bytes())
        except OSError:
            return None
        return ImageRecord(**{**values, "command": tuple(values["command"])})

    def names(self) -> Iterator[tuple[str, ImageRecord]]:
        """Every name with what it refers to, sorted."""
        for path in sorted((self.directory / "names").glob("*.json")):
            reference = urllib.parse.unquote(path.stem)
            record = self.find(reference)
            if record is not None:
                yield reference, record

    def name(self, reference: str, record: ImageRecord) -> None:
        """Let `reference` refer to this image from now on."""
        write_atomically(self._name_path(reference), json.dumps(asdict(record), indent=1) + "\n")

    def remove_name(self, reference: str) -> bool:
        try:
            self._name_path(reference).unlink()
        except FileNotFoundError:
            return False
        return True

    def _name_path(self, reference: str) -> Path:
        return self.directory / "names" / f"{urllib.parse.quote(reference, safe='')}.json"

    def _by_digest(self, image_uri: str) -> Image | None:
        repository, separator, digest = image_uri.partition("@")
        if not separator:
            return None
        for reference, record in self.names():
            if record.pushed and record.id == digest and _repository(reference) == repository:
                return self._image(image_uri, record)
        return None

    def _image(self, reference: str, record: ImageRecord) -> Image | None:
        if record.engine:
            # By its id: a URI with a digest is one that only a registry could resolve.
            return Image(reference=record.id, root=None, command=record.command, environment=record.environment)
        root = self.content(record.id) / "root"
        if not root.is_dir():
            return None
        # A variable that names LAMBDA_TASK_ROOT means the folder that stands for it here.
        environment = {key: value.replace(TASK_ROOT, str(root)) for key, value in record.environment.items()}
        return Image(reference=reference, root=root, command=record.command, environment=environment)

    # -- contents

    def content(self, identity: str) -> Path:
        return self.directory / "contents" / identity.removeprefix("sha256:")

    def read_content(self, identity: str) -> ImageRecord | None:
        """The image of this id where it has been built."""
        try:
            values = json.loads((self.content(identity) / "image.json").read_bytes())
        except OSError:
            return None
        return ImageRecord(**{**values, "command": tuple(values["command"])})

    def step(self, key: str) -> Path:
        return self.directory / "steps" / key

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """An empty folder of one's own while nobody else makes the same; it is gone afterwards unless moved away.

        Raises ImageError where the store cannot be written.
        """
        try:
            (self.directory / "building").mkdir(parents=True, exist_ok=True)
            with _locked(self.directory / "building" / f"{key}.lock"):
                self._clear_the_dead()
                folder = self.directory / "building" / f"{key}.{secrets.token_hex(4)}"
                folder.mkdir()
                try:
                    with _locked(folder / "lock"):
                        yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise ImageError(
                f"the image store {self.directory} cannot be written: {error.strerror or error}",
                hint=f"Make room or give rights there, or name another directory in {IMAGES_VARIABLE}.",
            ) from None

    def publish(self, folder: Path, destination: Path) -> None:
        """Give a finished folder its name; where another was faster, that one stays."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        _flush(folder)
        try:
            folder.rename(destination)
        except OSError:
            if not destination.is_dir():
                raise

    def _clear_the_dead(self) -> None:
        for folder in (self.directory / "building").iterdir():
            if not folder.is_dir():
                continue
            try:
                with _locked(folder / "lock", wait=False):
                    shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue  # its builder lives
            except OSError:
                # Made a moment ago and not locked yet, or gone: only an old one is a dead builder's.
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > 600:
                        shutil.rmtree(folder, ignore_errors=True)

    def prune(self) -> int:
        """Remove steps, and contents that no name refers to; returns the bytes that were freed.

        Not while a lab runs: its environments may live in an image whose name has moved on.
        """
        used = {record.id.removeprefix("sha256:") for _, record in self.names()}
        freed = 0
        for parent, keep in (("steps", set[str]()), ("contents", used)):
            folder = self.directory / parent
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in keep:
                    freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    shutil.rmtree(path, ignore_errors=True)
        return freed


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that the kernel drops with the process. Raises BlockingIOError where another holds it."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if wait else 0) | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
    """Put the files on disk before their folder gets its name: a rename must not outlive what it names."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _repository(reference: str) -> str:
    head, separator, tail = reference.rpartition(":")
    return head if separator and "/" not in tail else reference
