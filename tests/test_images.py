"""Images of every Pillow mode and depth: shown as a viewer shows them, or refused with the mode named."""

from __future__ import annotations

import numpy as np
import pytest
from commands import from_folder
from PIL import Image

from imbalanced_regression.faces.pixels import load_face
from imbalanced_regression.images import BadImage, as_shown

GREY = np.array([[0, 60], [128, 255]], np.uint8)
DEEP = np.array([[0, 60 * 257], [128 * 257 + 100, 65535]], np.uint16)  # the same greys with 16 bits
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 80, 200]]], np.uint8)
ALPHA = np.array([[255, 0], [128, 255]], np.uint8)


def grey(values) -> np.ndarray:
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


def over_white(values: np.ndarray) -> np.ndarray:
    share = ALPHA[..., None] / 255
    return values * share + 255 * (1 - share)


def with_alpha(values: np.ndarray, mode: str) -> Image.Image:
    return Image.frombytes(mode, (2, 2), np.concatenate([values.reshape(2, 2, -1), ALPHA[..., None]], axis=2).tobytes())


def palette(transparency=None) -> Image.Image:
    image = Image.frombytes("P", (2, 2), bytes(range(4)))
    image.putpalette(COLOURS.ravel().tolist())
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def keyed(mode: str, values: np.ndarray, key) -> Image.Image:
    image = Image.frombytes(mode, (2, 2), values.tobytes())
    image.info["transparency"] = key
    return image


def replaced(values: np.ndarray, row: int, column: int) -> np.ndarray:
    values = values.copy()
    values[row, column] = 255
    return values


ONES = np.array([[0, 255], [255, 0]], np.uint8)
SHOWN = {  # the file's ending -> the image, and the RGB that a viewer shows
    "1": ("png", Image.fromarray(ONES).convert("1"), grey(ONES)),
    "L": ("png", Image.fromarray(GREY), grey(GREY)),
    "L with a transparent grey": ("png", keyed("L", GREY, 60), replaced(grey(GREY), 0, 1)),
    "LA": ("png", with_alpha(GREY, "LA"), over_white(grey(GREY))),
    "P": ("png", palette(), COLOURS),
    "P with a transparent colour": ("png", palette(3), replaced(COLOURS, 1, 1)),
    "P with an alpha for each colour": ("png", palette(bytes(ALPHA.ravel())), over_white(COLOURS)),
    "GIF with a transparent colour": ("gif", palette(3), replaced(COLOURS, 1, 1)),
    "RGB": ("png", Image.fromarray(COLOURS), COLOURS),
    "RGB with a transparent colour": ("png", keyed("RGB", COLOURS, (0, 255, 0)), replaced(COLOURS, 0, 1)),
    "RGBA": ("png", with_alpha(COLOURS, "RGBA"), over_white(COLOURS)),
    "RGBA in a TIFF": ("tif", with_alpha(COLOURS, "RGBA"), over_white(COLOURS)),
    "CMYK": ("tif", Image.fromarray(COLOURS).convert("CMYK"), COLOURS),
    "YCbCr": ("tif", Image.fromarray(grey(GREY)).convert("YCbCr"), grey(GREY)),
    "I;16": ("png", Image.fromarray(DEEP), grey(GREY)),
    "I;16 in a TIFF": ("tif", Image.fromarray(DEEP), grey(GREY)),
    "I;16B": ("tif", Image.frombytes("I;16B", (2, 2), DEEP.astype(">u2").tobytes()), grey(GREY)),
    "PGM of 16 bits": ("pgm", Image.fromarray(DEEP), grey(GREY)),
}
REFUSED = {
    "I": ("tif", Image.fromarray(np.array([[-5, 70_000], [1, 2]], np.int32))),
    "F": ("tif", Image.fromarray(np.array([[0.5, 1], [2, 3]], np.float32))),
    "LAB": ("tif", Image.fromarray(COLOURS).convert("LAB")),
}


@pytest.mark.parametrize("mode", SHOWN)
def test_an_image_of_any_mode_is_read_as_a_viewer_shows_it(tmp_path, mode):
    """By the ages' loader and by the depth images' one."""
    ending, image, expected = SHOWN[mode]
    path = tmp_path / f"x.{ending}"
    image.save(path)
    for found in (load_face(path, 2), NYUD2.read_image(str(path), "row 1")):
        np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1)


def test_modes_that_no_file_is_opened_with_are_shown_too():
    rgba = with_alpha(COLOURS, "RGBA")
    for image in (palette(bytes(ALPHA.ravel())).convert("PA"), rgba.convert("RGBa")):
        found = np.asarray(as_shown(image)).astype(int)
        np.testing.assert_allclose(found[[0, 1], [0, 0]], over_white(COLOURS)[[0, 1], [0, 0]], atol=2)
        np.testing.assert_allclose(found[0, 1], 255)
    with pytest.raises(ValueError, match="its mode is La"):
        as_shown(with_alpha(GREY, "LA").convert("La"))


@pytest.mark.parametrize("mode", REFUSED)
def test_a_mode_without_one_meaning_is_refused_by_name(tmp_path, mode):
    ending, image = REFUSED[mode]
    image.save(tmp_path / f"x.{ending}")
    for read in (lambda path: load_face(path, 2), lambda path: NYUD2.read_image(path, "row 1")):
        with pytest.raises(BadImage, match=f"x.tif.*its mode is {mode}, which no viewer shows in one way; save it with 8"):
            read(str(tmp_path / f"x.{ending}"))


@pytest.mark.parametrize("mode", [*SHOWN, *REFUSED])
def test_a_depth_map_is_grey_of_its_depth_or_refused_with_its_mode(tmp_path, mode):
    """Stored numbers come back as they are; nothing is scaled, composed or converted on the way."""
    ending, image = ({**SHOWN, **REFUSED}[mode])[:2]
    path = str(tmp_path / f"x.{ending}")
    image.save(path)
    with Image.open(path) as written:
        stored, found = written.mode, np.array(written)
    for kind, modes in (("8-bit", ("L",)), ("16-bit", ("I;16", "I;16B", "I"))):
        if stored in modes and found.min() >= 0:
            assert (NYUD2.read_depth(path, "row 1", kind)[0].numpy() == found).all()
        else:
            reason = "holds -5 to 70000" if stored in modes else f"of mode {stored}, expected {kind} grey values .mode "
            with pytest.raises(BadImage, match=f"row 1: the depth file .* {'' if stored in modes else 'is '}{reason}"):
                NYUD2.read_depth(path, "row 1", kind)


NYUD2 = from_folder("nyud2-dir", "loaddata")
