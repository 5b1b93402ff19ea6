"""How far a deployment is, read from what the CDK command line has printed. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Shares of the time of a deployment whose images are built for the first time.
_SYNTH_SHARE: Final = 0.15
_IMAGES_SHARE: Final = 0.75

_SYNTHESISED: Final = "Synthesis time"
# Templates are assets too, and are built before the images.
_BUILDING_IMAGE: Final = re.compile(r"start: Building (?!.*Template)(\S+)")
_BUILT_IMAGE: Final = re.compile(r"success: Built (?!.*Template)(\S+)")
_CREATED: Final = re.compile(r"\| +(\d+)/(\d+) \|")


@dataclass(frozen=True)
class Deployed:
    """How much of a deployment is done, from 0 to 1, and what it does now."""

    share: float
    doing: str


def deployed_so_far(printed: str, image_count: int) -> Deployed:
    """Return how far `cdk deploy` is; `printed` is all that it wrote, `image_count` how many images the app has.

    An image that is there already is counted as built as soon as the command line says so.
    """
    _, synthesised, rest = printed.partition(_SYNTHESISED)
    if not synthesised:
        return Deployed(0.0, "synthesizing the stack")
    begun = _BUILDING_IMAGE.findall(rest)
    built = set(_BUILT_IMAGE.findall(rest))
    creating = _CREATED.findall(rest)
    if creating:
        done, of = (int(word) for word in creating[-1])
        return Deployed(
            _SYNTH_SHARE + _IMAGES_SHARE + (1 - _SYNTH_SHARE - _IMAGES_SHARE) * min(1.0, done / of),
            f"creating resources, {done} of {of}",
        )
    names = " and ".join(name for name in dict.fromkeys(begun) if name not in built)
    share = _SYNTH_SHARE + _IMAGES_SHARE * len(built) / max(1, image_count)
    return Deployed(share, f"building images, {len(built)} of {image_count} done" + (f", now {names}" if names else ""))
