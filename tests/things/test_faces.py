"""Where faces are found, and what the shipped network is."""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from trustscale_server.things.faces import Face, face_network_file, find_faces, zoom_for
from trustscale_server.upscalers.embedded.runtime import CPU, load_session

ASTRONAUT = 182, 58, 270, 178  # her face, in the picture of 512 pixels
BACKGROUND = 90


@cache
def network():
    # onnxruntime: the same numbers on every processor.
    return load_session(face_network_file(), name="CenterFace", threads=1, among=[CPU]).run


def astronaut(side: int) -> Image.Image:
    picture = Image.fromarray(skimage.data.astronaut())
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def find(picture: Image.Image, zoom: float) -> list[Face]:
    return find_faces(np.asarray(picture), zoom, network())


def is_around(face: Face, box: tuple[float, ...]) -> bool:
    """Whether a face holds most of a box and is not much larger."""
    wide = min(face.right, box[2]) - max(face.left, box[0])
    high = min(face.bottom, box[3]) - max(face.top, box[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    found = (face.right - face.left) * (face.bottom - face.top)
    return min(wide, high) > 0 and wide * high > 0.75 * area and found < 2.5 * area


@pytest.mark.parametrize(
    ("side", "zoom"), [(64, 4.0), (96, 4.0), (128, 4.0), (512, 2.0), (512, 1.0)]
)
def test_a_face_is_found_at_every_size(side, zoom):
    """A frontal face is found from 15 pixels of an upload to 120, and its box is around it."""
    faces = find(astronaut(side), zoom)
    assert is_around(faces[0], tuple(x * side / 512 for x in ASTRONAUT))


def test_a_face_that_fills_a_picture_is_found():
    """The coarser levels find a face that is larger than the overlap of tiles."""
    left, top, right, bottom = ASTRONAUT
    close = astronaut(512).crop((left - 30, top - 30, right + 30, bottom + 30))
    close = close.resize((740, 900), Image.Resampling.BICUBIC)
    assert is_around(find(close, 2.0)[0], (150, 150, 590, 750))


def test_faces_on_the_borders_of_tiles_are_found_once():
    """In a picture of many tiles every face is found once, wherever tiles begin."""
    wide = Image.new("RGB", (1400, 300), (BACKGROUND,) * 3)
    small = astronaut(200)
    places = [0, 300, 600, 900, 1200]
    for left in places:
        wide.paste(small, (left, 50))
    faces = [face for face in find(wide, 2.0) if face.score > 0.5]
    expected = [
        tuple(side * 200 / 512 + shift for side, shift in zip(ASTRONAUT, (x, 50) * 2, strict=True))
        for x in places
    ]
    assert len(faces) == len(places)
    assert all(sum(is_around(face, box) for face in faces) == 1 for box in expected)


@pytest.mark.parametrize("name", ["coffee", "rocket", "page", "brick"])
def test_things_are_no_faces(name):
    """In pictures of a cup, a rocket, a page of text and a wall nothing is found."""
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    assert find(picture.resize((128, 128), Image.Resampling.BICUBIC), 4.0) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (37, 5), (33, 31)])
def test_tiny_and_narrow_pictures_are_looked_at(size):
    """Any size can be looked at, and a flat picture has no face."""
    assert find(Image.new("RGB", size, (BACKGROUND,) * 3), 4.0) == []


def test_boxes_stay_within_the_picture():
    """A face that is cut by the border has a box within the picture."""
    left, top, right, _ = ASTRONAUT
    cut = astronaut(512).crop((left + 20, top, right + 100, top + 150))
    faces = find(cut, 2.0)
    assert faces
    for face in faces:
        assert 0 <= face.left < face.right <= cut.width
        assert 0 <= face.top < face.bottom <= cut.height


def test_the_enlargement_follows_size_and_scale():
    """Small uploads are enlarged most, large ones twice, and none beyond the upscaler's scale."""
    assert zoom_for(128, 128, 4) == 4
    assert zoom_for(512, 512, 4) == 2
    assert zoom_for(4000, 3000, 4) == 2
    assert zoom_for(300, 400, 8) == pytest.approx(1024 / np.sqrt(300 * 400))
    assert zoom_for(300, 400, 1) == 1


def test_the_shipped_file_is_the_one_that_card_and_notice_name():
    """The model card and NOTICE name the digest of the network that is shipped."""
    digest = hashlib.sha256(face_network_file()).hexdigest()
    models = resources.files("trustscale_server.things") / "models"
    assert digest in (models / "MODEL_CARD.md").read_text("utf-8")
    assert digest in (Path(__file__).parents[2] / "NOTICE").read_text("utf-8")
