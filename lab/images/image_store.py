"""The images of this machine's labs: what was built, by content, and under which names it was tagged and pushed.

One directory for all labs of a checkout (`.lab/images`, or LAB_IMAGES), as there is one engine's store for all programs
of a machine. Below it:

    contents/<id>/root/        the image's LAMBDA_TASK_ROOT
    contents/<id>/image.json   its command and environment; written before the folder gets its name
    steps/<key>/root/          what a slow step of a Dockerfile left behind, so that it runs once
    names/<reference>.json     one file per name; a name is never half written
    building/<key>.<random>/   what is being made, while its builder holds the lock <key>.lock next to it
    leases/<lab>/              of a running lab: a lock that it holds, its port, and a file for each image it was given

A folder below `contents` or `steps` appears by a rename when it is whole, so a kill at any moment leaves the store as
it was. Folders are never changed afterwards: environments run from them. What a living lab was given, by a push or by
running it, stays until that lab has ended, whoever removes names or prunes; a lease whose lock is free is a dead lab's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from core.errors import UserError
from core.paths import REPOSITORY
from core.run.run_directory import write_atomically
from lab.contracts import Image

IMAGES_VARIABLE: Final = "LAB_IMAGES"
DEFAULT_DIRECTORY: Final = REPOSITORY / ".lab" / "images"
RECORD_FILE: Final = "image.json"  # next to an image's files
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


_REGISTRY: Final = re.compile(r"^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z0-9.-]+(?::\d+)?(?=/)")


def images_directory() -> Path:
    """LAB_IMAGES, or `.lab/images` of this checkout."""
    given = os.environ.get(IMAGES_VARIABLE)
    return Path(given).resolve() if given else DEFAULT_DIRECTORY


class DirectoryImageStore:
    """Implements `lab.contracts.ImageStore`, and what the stand-in for docker needs to fill it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or images_directory()
        self._resolved: dict[str, tuple[tuple[int, int], Image]] = {}
        self._lease: Path | None = None

    # -- names

    def resolve(self, image_uri: str) -> Image | None:
        """The pushed image of this URI (`repository:tag`, or `repository@sha256:...`), or None."""
        image_uri = canonical_reference(image_uri)
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
        image = self._leased_image(image_uri, record)
        if image is not None:
            self._resolved[image_uri] = (stamp, image)
        return image

    def find(self, reference: str) -> ImageRecord | None:
        """What a name refers to, pushed or not."""
        return _read_record(self._name_path(reference))

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

    def remove_name(self, reference: str, *, force: bool = False) -> bool:
        """Forget a name; False where it is not there. ImageError, without `force`, where a lab needs it."""
        reference = canonical_reference(reference)
        users = sorted(port for port, name, _ in self.leased() if name == reference)
        if users and not force:
            raise ImageError(
                f"{reference} is in use by the lab at port {users[0]}",
                hint="Stop that lab first, or use --force: its environments live on, and it can start no new ones.",
            )
        try:
            self._name_path(reference).unlink()
        except FileNotFoundError:
            return False
        return True

    def _name_path(self, reference: str) -> Path:
        return self.directory / "names" / f"{urllib.parse.quote(canonical_reference(reference), safe='')}.json"

    def _by_digest(self, image_uri: str) -> Image | None:
        repository, separator, digest = image_uri.partition("@")
        if not separator:
            return None
        for reference, record in self.names():
            if record.pushed and record.id == digest and _repository(reference) == repository:
                return self._leased_image(image_uri, record)
        return None

    def _leased_image(self, reference: str, record: ImageRecord) -> Image | None:
        """The image, kept for this lab before it is looked at: a prune in between would find the lease."""
        if self._lease is not None:
            with contextlib.suppress(OSError):
                _write_lease(self._lease, reference, record)
        if record.engine:
            # By its id: a URI with a digest is one that only a registry could resolve.
            return Image(record.id, None, record.command, record.environment, record.labels)
        root = self.content(record.id) / "root"
        if not root.is_dir():
            return None
        # A variable that names LAMBDA_TASK_ROOT means the folder that represents it here.
        environment = {key: value.replace(TASK_ROOT, str(root)) for key, value in record.environment.items()}
        return Image(reference, root, record.command, environment, record.labels)

    # -- leases

    @contextlib.contextmanager
    def lease(self, port: int) -> Iterator[None]:
        """For a lab as long as it lives: what it is given stays. A store that cannot be written is used without."""
        folder = self.directory / "leases" / f"{os.getpid()}-{secrets.token_hex(4)}"
        making = folder.with_name(f".{folder.name}")
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                (making / "images").mkdir(parents=True)
                (making / "port").write_text(str(port))
                stack.enter_context(_locked(making / "lock"))
                self._lease = making.rename(folder)  # seen by others when it is locked: never for a dead lab's
            yield

    def give(self, port: int, reference: str, record: ImageRecord) -> None:
        """Keep an image for the lab at this port, which was given it by a push."""
        for folder, found in self._living_leases():
            if found == port:
                _write_lease(folder, reference, record)

    def leased(self) -> Iterator[tuple[int, str, str]]:
        """(port of the lab, name, id) of every image that a living lab was given."""
        for folder, port in self._living_leases():
            for path in (folder / "images").glob("*"):
                with contextlib.suppress(OSError):  # the lab ends at this moment
                    yield port, urllib.parse.unquote(path.name), path.read_text()

    def _living_leases(self) -> Iterator[tuple[Path, int]]:
        """Leases whose lab lives; those of dead ones are removed on the way."""
        leases = self.directory / "leases"
        for folder in sorted(leases.glob("[!.]*")):
            try:
                with _locked(folder / "lock", wait=False):
                    shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                with contextlib.suppress(OSError, ValueError):
                    yield folder, int((folder / "port").read_text())
            except OSError:
                continue  # it is being made, or has just gone

    # -- contents

    def content(self, identity: str) -> Path:
        return self.directory / "contents" / identity.removeprefix("sha256:")

    def read_content(self, identity: str) -> ImageRecord | None:
        """The image of this id where it has been built."""
        return _read_record(self.content(identity) / RECORD_FILE)

    def step(self, key: str) -> Path:
        return self.directory / "steps" / key

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """An empty private folder, while nobody else builds the same; removed afterwards unless moved away.

        Raises ImageError where the store cannot be written.
        """
        try:
            (self.directory / "building").mkdir(parents=True, exist_ok=True)
            with _locked(self.directory / "building" / f"{key}.lock"):
                self._clear_the_dead(key)
                folder = self.directory / "building" / f"{key}.{secrets.token_hex(4)}"
                folder.mkdir()
                try:
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

    def _clear_the_dead(self, own_key: str) -> None:
        """Remove what dead builders left. A folder's builder holds the lock of its key as long as it lives."""
        building = self.directory / "building"
        for folder in building.iterdir():
            if not folder.is_dir():
                continue
            key = folder.name.rpartition(".")[0]
            if key == own_key:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            # Refused: its builder lives.
            with contextlib.suppress(OSError), _locked(building / f"{key}.lock", wait=False):
                shutil.rmtree(folder, ignore_errors=True)

    def prune(self) -> int:
        """Remove steps, and contents that no name refers to and no living lab was given; returns the bytes freed."""
        named = {record.id.removeprefix("sha256:") for _, record in self.names()}
        freed = 0
        for parent in ("steps", "contents"):
            folder = self.directory / parent
            for path in folder.iterdir() if folder.is_dir() else ():
                # A folder that made way for another of the same id bears its time behind a dot. Leases are read again
                # for each: a lab may have been given the image meanwhile.
                leased = (identity.removeprefix("sha256:") for _, _, identity in self.leased())
                if parent == "steps" or (path.name not in named and path.name.partition(".")[0] not in set(leased)):
                    freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                    shutil.rmtree(path, ignore_errors=True)
        return freed


def _read_record(path: Path) -> ImageRecord | None:
    try:
        values = json.loads(path.read_bytes())
    except OSError:
        return None
    return ImageRecord(**{**values, "command": tuple(values["command"])})


def _write_lease(folder: Path, reference: str, record: ImageRecord) -> None:
    (folder / "images" / urllib.parse.quote(canonical_reference(reference), safe="")).write_text(record.id)


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


def canonical_reference(reference: str) -> str:
    """The one name of an image: a lab has one registry per account and region, whatever domain a client gives it.

    `cdk deploy --hotswap` takes the domain from the endpoint's host, which is `localhost` for a lab.
    """
    return _REGISTRY.sub(r"\1.dkr.ecr.\2.amazonaws.com", reference)


def _repository(reference: str) -> str:
    head, separator, tail = reference.rpartition(":")
    return head if separator and "/" not in tail else reference
