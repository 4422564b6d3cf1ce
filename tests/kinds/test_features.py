"""What is measured of an upload: its looks, and how it was compressed."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from harness.factories import encoded, photo
from trustscale_server.images.compression import LOSSLESS, Compression, read_compression
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import Limits
from trustscale_server.kinds.classes import class_in_words, kinds_table, ways_of_class
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import make_input, subject_of
from trustscale_server.kinds.features import BANDS, UPLOAD, classify, look_at
from trustscale_server.kinds.resaved import resaved_quality, strongest_compression
from trustscale_server.kinds.statistics import MAX_TILES, TILE, describe, tiles_of
from trustscale_server.kinds.typical import TYPICAL_UPLOADS

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_features_move_as_their_names_say():
    """Blur takes detail, noise adds noise, a brighter picture has more light, grey no colour."""
    pixels = photo(1, 96, 96)
    plain = look_at(pixels, LOSSLESS)
    random = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(pixels, (3, 3, 0))
    noisy = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    assert look_at(blurred, LOSSLESS).detail < plain.detail < look_at(noisy, LOSSLESS).detail
    assert look_at(noisy, LOSSLESS).noise > plain.noise + 1
    assert look_at(grey, LOSSLESS).colour == 0 < plain.colour


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (700, 20), (64, 48)])
def test_any_size_has_features(shape):
    for pixels in (np.zeros((*shape, 3), np.uint8), photo(0, *shape)):
        features = look_at(pixels, LOSSLESS)
        assert np.isfinite([*features.terms().values(), features.colour]).all()
        assert features.kind.name in kinds_table().words


def test_the_cost_has_a_bound():
    """Of a large picture some tiles are described, and they lie everywhere in it."""
    large = np.zeros((2048, 4096, 3), np.uint8)
    random = np.random.default_rng(0)
    large[::TILE, ::TILE] = random.integers(0, 255, (64, 128, 3))
    assert len(tiles_of(large)) <= MAX_TILES
    for part in np.ndindex(2, 2):
        changed = large.copy()
        rows, columns = (
            slice(k * half, (k + 1) * half) for k, half in zip(part, (1024, 2048), strict=True)
        )
        changed[rows, columns] = random.integers(0, 255, (1024, 2048, 3))
        assert describe(changed) != describe(large)


def test_tiles_of_small_pictures_overlap():
    """Each begins at the grid of JPEG's blocks; from 128 pixels on they lie side by side."""
    pixels = photo(1, 64, 64)
    places = [(8 * down, 8 * across) for down, across in np.ndindex(5, 5)]
    expected = [pixels[top : top + TILE, left : left + TILE] for top, left in places]
    assert np.array_equal(tiles_of(pixels), expected)
    assert len(tiles_of(photo(1, 127, 160))) == 12 * 17
    assert len(tiles_of(photo(1, 128, 160))) == 4 * 5


def test_a_part_that_is_unlike_the_rest_is_seen():
    """A quarter that was enlarged shows in the lowest quantile, wherever it lies."""
    for truth in examples():
        sharp, soft = (
            make_input(truth, 2, Degradation(enlarged=factor), 0).pixels for factor in (1, 3)
        )
        plain, half = describe(sharp)["second 0.1"], len(sharp) // 2
        for top, left in np.ndindex(2, 2):
            place = tuple(slice(half * k, half * k + half) for k in (top, left))
            mixed = sharp.copy()
            mixed[place] = soft[place]
            assert describe(mixed)["second 0.1"] < plain


def test_what_a_grey_picture_cannot_tell():
    """Its chroma says nothing, rather than that it is unlike all coloured ones."""
    grey = np.repeat(photo(1, 96, 96)[..., :1], 3, axis=2)
    silent = {name for name, value in describe(grey).items() if np.isnan(value)}
    assert silent == {name for name in describe(photo(1, 96, 96)) if name.startswith("chroma")}


def test_softness():
    """It rises with the factor of an earlier enlargement."""
    pixels = Image.fromarray(photo(2, 512, 512)).resize((128, 128))
    found = []
    for side in (128, 85, 64, 43):
        once = pixels.resize((side, side)).resize((128, 128), Image.Resampling.LANCZOS)
        found.append(look_at(np.asarray(once), LOSSLESS).softness)
    assert found == sorted(found)
    assert found[0] < found[-1]


@pytest.mark.parametrize("way", list(TYPICAL_UPLOADS.variants()))
def test_classes(way):
    """Most inputs of each typical way are read as its class; those of motion often as soft."""
    part = TYPICAL_UPLOADS.variants()[way]
    found = Counter(
        classify(UPLOAD, look_at(*make_input(subject_of(truth, 2, part, seed), 2, part, seed)))
        for truth in examples()
        for seed in range(4)
    )
    own = next(name for name in kinds_table().words if way in ways_of_class(name))
    assert found[own] >= found.total() * (0.3 if way in {"motion", "collage"} else 0.5), found
    assert found.keys() <= kinds_table().words.keys()


@pytest.mark.parametrize("way", ["lossless", "jpeg-65"])
def test_classes_of_small_inputs(way):
    """Inputs of 64×64 pixels are read as their class, too."""
    part = TYPICAL_UPLOADS.variants()[way]
    found = Counter(
        classify(UPLOAD, look_at(*make_input(subject_of(crop, 2, part, 1), 2, part, 1)))
        for truth in examples()
        for top, left in np.ndindex(2, 2)
        for crop in [truth[128 * top :, 128 * left :][:128, :128]]
    )
    assert found[way] >= 11, found


def examples():
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLES.glob("*.png"))]


def test_other_classes():
    """Files that nothing reads are of no class of the table; data have classes of their own."""
    features = look_at(photo(), Compression("other"))
    assert classify(UPLOAD, features) == "other" not in kinds_table().words
    assert [classify(BANDS, replace(features, colour=c)) for c in (0.0, 1.0)] == ["grey", "colour"]
    with pytest.raises(ValueError, match="upload/6"):
        classify("upload/4", features)


def test_what_a_score_may_look_at():
    """Loss rises as the quality falls, and is 0 only without loss; codecs are told apart."""
    features = look_at(photo(), LOSSLESS)
    codecs = (LOSSLESS, ("jpeg", 90), ("jpeg", 40), ("webp", 40), ("palette", None))
    found = [replace(features, compression=Compression(*codec)).terms() for codec in codecs]
    assert [terms["loss"] for terms in found] == pytest.approx([0, 0.1, 0.6, 0.6, 0.5])
    assert [(terms["lossy"], terms["jpeg"]) for terms in found] == [
        (0, 0), (1, 1), (1, 1), (1, 0), (1, 0)
    ]  # fmt: skip
    assert {terms["softness"] for terms in found} == {round(features.softness, 3)}


def textured(seed=0, side=128):
    random = np.random.default_rng(seed)
    noise = random.normal(0, 25, (side, side, 1)) + random.normal(0, 5, (side, side, 3))
    return np.clip(photo(seed, side, side) + noise, 0, 255).astype(np.uint8)


def said(data):
    return read_compression(data, Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("quality", [1, 20, 49, 50, 67, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_quality_is_exact(quality, subsampling):
    """The quality that an encoder scaled the standard table by is found again."""
    data = encoded(textured(), "JPEG", quality=quality, subsampling=subsampling)
    assert said(data) == Compression("jpeg", quality)


@pytest.mark.parametrize("quality", [30, 50, 75, 85, 95])
def test_webp_quality_is_near(quality):
    """The quantiser of the bitstream gives the quality to within what segments vary."""
    found = [said(encoded(textured(k), "WEBP", quality=quality)).quality for k in range(4)]
    assert max(abs(one - quality) for one in found) <= 12
    assert abs(np.mean(found) - quality) <= 8


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [("PNG", {}, LOSSLESS), ("WEBP", {"lossless": True}, LOSSLESS),
     ("WEBP", {"lossless": True, "exif": b"Exif\0\0"}, LOSSLESS), ("TIFF", {}, LOSSLESS),
     ("TIFF", {"compression": "tiff_lzw"}, LOSSLESS),
     ("TIFF", {"compression": "jpeg"}, Compression("other")), ("GIF", {}, Compression("palette"))],
)  # fmt: skip
def test_other_files(form, options, expected):
    assert said(encoded(textured(), form, **options)) == expected


@pytest.mark.parametrize(
    ("side", "quality"), [(24, 64), (128, 20), (128, 40), (128, 80), (128, 95), (700, 64)]
)
def test_avif_quality_is_near(quality, side):
    """The quantiser of the first frame gives it, of one tile and of several."""
    found = said(encoded(textured(1, side), "AVIF", quality=quality))
    assert found == ("avif", pytest.approx(quality, abs=2))


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_damaged_files(form):
    """A file that ends early, or with a bit turned, says nothing or something, and never fails."""
    data = encoded(textured(), form, quality=60)
    image = Image.open(io.BytesIO(data))
    place = data.find(b"mdat") + 4 if form == "AVIF" else 12
    for end in range(place + 60):
        assert read_compression(data[:end], image).codec in {"webp", "avif", "other"}
        turned = bytearray(data)
        turned[end] ^= 1 << end % 8
        quality = read_compression(bytes(turned), image).quality
        assert quality is None or 1 <= quality <= 100


class TestResaved:
    @pytest.mark.parametrize("quality", [40, 60, 75, 90])
    @pytest.mark.parametrize("cut", [(0, 0), (3, 5)])
    def test_a_jpeg_saved_again_without_loss(self, quality, cut):
        """The first quantisation is found in the pixels, also where the picture was cut since."""
        top, left = cut
        pixels = np.asarray(Image.open(io.BytesIO(encoded(textured(), "JPEG", quality=quality))))
        assert resaved_quality(pixels[top:, left:]) == pytest.approx(quality, abs=1)

    @pytest.mark.parametrize("later", [("JPEG", 92), ("JPEG", 96), ("WEBP", 95), ("AVIF", 95)])
    def test_the_lowest_quality_in_the_chain(self, later):
        """A JPEG that was saved again with less loss counts as what it was; the worst file too."""
        form, quality = later
        first = Image.open(io.BytesIO(encoded(textured(), "JPEG", quality=50)))
        again = decode(encoded(np.asarray(first), form, quality=quality), Limits())
        worst = strongest_compression(again.compression, again.rgb)
        assert worst == ("jpeg", pytest.approx(50, abs=1))
        assert strongest_compression(Compression("jpeg", 20), again.rgb) == ("jpeg", 20)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("quality", [45, 60, 75, 80, 85, 95])
    def test_saved_once(self, form, quality):
        for seed in range(4):
            once = decode(encoded(textured(seed), form, quality=quality), Limits())
            assert strongest_compression(once.compression, once.rgb) == once.compression

    def test_what_never_was_a_jpeg(self):
        for seed in range(30):
            assert resaved_quality(textured(seed)) is None
            assert resaved_quality(photo(seed, 128, 128)) is None
        assert resaved_quality(np.zeros((64, 64, 3), np.uint8)) is None
        assert resaved_quality(np.zeros((5, 7, 3), np.uint8)) is None


def test_every_class_has_words():
    """And every typical way a class; another name is its own."""
    assert {way for name in kinds_table().words for way in ways_of_class(name)} == {
        *TYPICAL_UPLOADS.variants()
    }
    for name in (*kinds_table().words, "other", "grey", "colour"):
        assert class_in_words(name) != name
    assert class_in_words("soft/jpeg-80") == "soft/jpeg-80"
