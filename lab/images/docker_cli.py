"""`inference-lab lab docker ...`: answers what the CDK command line asks of docker (CDK_DOCKER).

build, tag, push, inspect, login, and images, rmi, image prune for people. Where the lab that AWS_ENDPOINT_URL
names runs containers, or LAB_ENGINE names one, the real engine builds and tags, and this records what was pushed;
otherwise `lab.images.builder` builds. Nothing leaves the machine: a push makes an image known to the labs of this
checkout and to the ECR of that lab.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from core.aws.endpoint import endpoint_url
from core.errors import EXIT_ERROR, EXIT_OK, UserError
from lab.images import builder
from lab.images.build_plan import BuildRequest
from lab.images.engine import ENGINE_VARIABLE, Engine, find_engine
from lab.images.image_store import DirectoryImageStore, ImageError, ImageRecord

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"


def main(argv: Sequence[str]) -> int:
    """Run one docker command; returns its exit code. Raises UserError."""
    parsed = _parser().parse_args(list(argv))
    store = DirectoryImageStore()
    engine = Engine(find_engine()[0]) if parsed.run in _BUILDING and _wants_engine() else None
    code: int = parsed.run(parsed, store, engine)
    return code


def _wants_engine() -> bool:
    """Whether images are for containers: LAB_ENGINE says so, or the lab's own driver does."""
    if os.environ.get(ENGINE_VARIABLE):
        return True
    if not endpoint_url():
        return False
    from core.aws.cloud import Cloud  # noqa: PLC0415 - boto3 takes longer to load than most commands take

    return Cloud().endpoint_facts().limits.driver == "container"


def _build(parsed: argparse.Namespace, store: DirectoryImageStore, engine: Engine | None) -> int:
    context = Path(parsed.context)
    if not context.is_dir():
        raise UserError(f"docker build: {parsed.context} is not a directory; the build context has to be one")
    arguments = dict(_key_value(word) for word in parsed.build_arg)
    file = Path(parsed.file) if parsed.file else context / "Dockerfile"
    if not file.exists() and (context / file).exists():
        file = context / file  # --file is read against the working directory; the CDK means its asset's folder
    if engine is not None:
        record = engine.build(context, file, arguments, parsed.platform, use_cache=not parsed.no_cache)
    else:
        request = BuildRequest(context, file, arguments, parsed.platform, use_cache=not parsed.no_cache)
        record = builder.build(request, store, (lambda _: None) if parsed.quiet else _say)
    for tag in parsed.tag:
        store.name(_with_tag(tag), record)
    print(record.id if parsed.quiet else f"Successfully built {record.id}")
    return EXIT_OK


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _key_value(word: str) -> tuple[str, str]:
    key, separator, value = word.partition("=")
    return key, value if separator else os.environ.get(key, "")


def _tag(parsed: argparse.Namespace, store: DirectoryImageStore, engine: Engine | None) -> int:
    record = _found(store, parsed.source, engine)
    if engine is not None:
        engine.tag(record.id, _with_tag(parsed.target))
    known = store.find(_with_tag(parsed.target))
    # Another lab of this checkout may run the very same image under this name: it stays pushed.
    pushed = known is not None and known.pushed and known.id == record.id
    store.name(_with_tag(parsed.target), replace(record, pushed=pushed))
    return EXIT_OK


def _push(parsed: argparse.Namespace, store: DirectoryImageStore, engine: Engine | None) -> int:
    reference = _with_tag(parsed.reference)
    record = _found(store, reference, engine)
    address = endpoint_url()
    if address:
        store.give(urllib.parse.urlsplit(address).port or 0, reference, record)
    store.name(reference, replace(record, pushed=True))
    if address:
        _register(reference, record)
    print(f"{reference.rpartition(':')[2]}: digest: {record.id} size: 0")
    return EXIT_OK


def _register(reference: str, record: ImageRecord) -> None:
    """Tell the lab's ECR: `describe-images` lists the image, and a function is known to run another one than before."""
    from core.aws.cloud import Cloud, cloud_errors  # noqa: PLC0415 - as above

    registry_and_name, _, tag = reference.rpartition(":")
    _, _, repository = registry_and_name.partition("/")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 0, "digest": record.id},
        "layers": [],
    }
    ecr = Cloud().client("ecr")
    try:
        with cloud_errors():
            ecr.put_image(
                repositoryName=repository, imageTag=tag, imageManifest=json.dumps(manifest), imageDigest=record.id
            )
    except UserError as error:
        if "ImageAlreadyExists" in error.message:
            return
        raise ImageError(
            f"docker push {reference}: {error.message}", hint=error.hint or "Run `cdk bootstrap` first."
        ) from None


def _inspect(parsed: argparse.Namespace, store: DirectoryImageStore, engine: Engine | None) -> int:
    described = []
    for reference in parsed.reference:
        record = _usable(store, reference, engine)
        if record is None:
            print("[]")
            print(f"Error: No such object: {reference}", file=sys.stderr)
            return EXIT_ERROR
        described.append(_describe(_with_tag(reference), record))
    print(json.dumps(described, indent=4))
    return EXIT_OK


def _describe(reference: str, record: ImageRecord) -> dict[str, Any]:
    return {
        "Id": record.id,
        "RepoTags": [reference],
        "Config": {
            "Cmd": list(record.command),
            "Env": [f"{key}={value}" for key, value in record.environment.items()],
            "Labels": record.labels,
            "WorkingDir": record.working_directory,
        },
    }


def _images(_: argparse.Namespace, store: DirectoryImageStore, __: Engine | None) -> int:
    for reference, record in store.names():
        print(f"{reference} {record.id}")
    return EXIT_OK


def _login(parsed: argparse.Namespace, _: DirectoryImageStore, __: Engine | None) -> int:
    if parsed.password_stdin:
        sys.stdin.read()
    print("Login Succeeded")  # nothing leaves this machine, so there is nothing to log in to
    return EXIT_OK


def _rmi(parsed: argparse.Namespace, store: DirectoryImageStore, _: Engine | None) -> int:
    for reference in parsed.reference:
        if not store.remove_name(_with_tag(reference), force=parsed.force):
            raise ImageError(f"no image {reference}", hint="`inference-lab lab docker images` lists the images.")
        print(f"Untagged: {reference}")
    return EXIT_OK


def _prune(_: argparse.Namespace, store: DirectoryImageStore, __: Engine | None) -> int:
    print(f"Total reclaimed space: {store.prune() / 2**20:.0f} MB")
    return EXIT_OK


def _found(store: DirectoryImageStore, reference: str, engine: Engine | None) -> ImageRecord:
    record = _usable(store, reference, engine)
    if record is None:
        raise ImageError(
            f"no image {reference}", hint="Build it first; `inference-lab lab docker images` lists the images."
        )
    return record


def _usable(store: DirectoryImageStore, reference: str, engine: Engine | None) -> ImageRecord | None:
    """What the name refers to, if it is still there and of the kind wanted now; the CDK builds it otherwise."""
    record = store.find(_with_tag(reference))
    if record is None or record.engine != (engine.program if engine else ""):
        return None
    if engine is not None:
        return record if engine.has(record.id) else None
    return record if store.read_content(record.id) else None


def _with_tag(reference: str) -> str:
    return reference if ":" in reference.rpartition("/")[2] or "@" in reference else f"{reference}:latest"


# Commands for which it matters who builds.
_BUILDING: Final = (_build, _tag, _push, _inspect)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(
            f"{self.prog}: {message}",
            hint="This stand-in knows what the CDK command line uses of docker; for the rest, use a container engine.",
        )


def _parser() -> _Parser:
    parser = _Parser(prog="docker", description="The lab's stand-in for docker.", allow_abbrev=False)
    parser.add_argument("--config", help="ignored: nothing is logged in to")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    build = commands.add_parser("build", help="build an image from a Dockerfile", allow_abbrev=False)
    build.add_argument("--tag", "-t", action="append", default=[])
    build.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    build.add_argument("--file", "-f", default="")
    build.add_argument("--platform", default="")
    build.add_argument("--no-cache", action="store_true")
    build.add_argument("--quiet", "-q", action="store_true")
    for ignored in ("--network", "--cache-from", "--cache-to", "--progress"):
        build.add_argument(ignored, action="append", help="ignored")
    for ignored in ("--pull", "--load"):
        build.add_argument(ignored, action="store_true", help="ignored")
    build.add_argument("context")
    build.set_defaults(run=_build)

    tag = commands.add_parser("tag", help="give an image another name")
    tag.add_argument("source")
    tag.add_argument("target")
    tag.set_defaults(run=_tag)

    push = commands.add_parser("push", help="make an image known to the lab")
    push.add_argument("--quiet", "-q", action="store_true")
    push.add_argument("reference")
    push.set_defaults(run=_push)

    inspect = commands.add_parser("inspect", help="what a name refers to, as JSON; exit code 1 where there is none")
    inspect.add_argument("reference", nargs="+")
    inspect.set_defaults(run=_inspect)

    images = commands.add_parser("images", help="list names")
    images.set_defaults(run=_images)

    login = commands.add_parser("login", help="does nothing: nothing leaves this machine")
    login.add_argument("--username", "-u")
    login.add_argument("--password", "-p")
    login.add_argument("--password-stdin", action="store_true")
    login.add_argument("server", nargs="?")
    login.set_defaults(run=_login)

    rmi = commands.add_parser("rmi", help="remove names")
    rmi.add_argument("--force", "-f", action="store_true", help="even where a running lab needs the image")
    rmi.add_argument("reference", nargs="+")
    rmi.set_defaults(run=_rmi)

    image = commands.add_parser("image", help="image prune: remove what no name refers to and no running lab needs")
    image.add_argument("what", choices=["prune"])
    image.set_defaults(run=_prune)
    return parser
