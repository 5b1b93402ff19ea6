"""Pictures of every kind: decoded to Keras's own pixels, or refused with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functions.conftest import FUNCTION

pytestmark = pytest.mark.slow

# One process of Keras for all of it: the largest difference of a pixel from keras.utils.load_img, or the refusal.
PROGRAM = """
import json, pathlib, sys
import keras, numpy as np
from PIL import Image
from pictures import PictureError, decode
folder = pathlib.Path(sys.argv[1])
rgb = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)).resize((500, 375))
exif = Image.Exif()
exif[0x0112] = 6  # turned by 90 degrees
rgb.save(folder / "plain.jpg")
rgb.save(folder / "progressive.jpg", progressive=True)
rgb.save(folder / "turned.jpg", exif=exif)
rgb.convert("L").save(folder / "grey.jpg")
rgb.convert("CMYK").save(folder / "cmyk.jpg")
rgb.rotate(90, expand=True).save(folder / "portrait.jpg")
rgb.save(folder / "png.jpg", format="PNG")
rgb.save(folder / "webp.jpg", format="WEBP")
rgb.convert("P").save(folder / "gif.jpg", format="GIF")
rgb.convert("RGBA").save(folder / "alpha.png")
Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(folder / "sixteen.png")
Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
rgb.save(folder / "bmp.jpg", format="BMP")
whole = (folder / "plain.jpg").read_bytes()
(folder / "torn.jpg").write_bytes(whole[: len(whole) // 2])
(folder / "noise.jpg").write_bytes(b"\\xff\\xd8" + b"no picture at all" * 40)
(folder / "empty.jpg").write_bytes(b"")
found = {}
for path in [*sorted(folder.iterdir()), folder / "absent.jpg"]:
    try:
        ours = decode(path, 224)
    except PictureError as error:
        found[path.name] = str(error)
        continue
    theirs = keras.utils.load_img(path, target_size=(224, 224), interpolation="bilinear", keep_aspect_ratio=True)
    found[path.name] = float(np.abs(keras.utils.img_to_array(theirs) - ours[0]).max())
print(json.dumps(found))
"""
REFUSED = {
    "sixteen.png": "8 bits per channel",
    "bomb.png": "too large",
    "bmp.jpg": "not a picture in one of the formats",
    "torn.jpg": "damaged or incomplete",
    "noise.jpg": "not a picture",
    "empty.jpg": "not a picture",
    "absent.jpg": "cannot be read",
}


def test_every_kind_of_picture_has_kerass_pixels_or_is_refused_with_the_reason(
    build_stage: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(tmp_path)],
        cwd=FUNCTION,
        env={**build_stage, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, reason in REFUSED.items():
        assert reason in found.pop(name)
    assert len(found) == 10
    assert set(found.values()) == {0.0}
