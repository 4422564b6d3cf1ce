"""What is measured of an upload: its looks, and how it was compressed."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.factories import encoded, photo
from trustscale_server.images.compression import (
    EDGES,
    LOSSLESS,
    Compression,
    class_in_words,
    class_of,
    edges_of,
    read_compression,
    resaved_quality,
    worst_of,
)
from trustscale_server.images.decode import Limits, decode
from trustscale_server.images.degrade import Degradation, degrade
from trustscale_server.images.facts import TRACE, UPLOAD, classify, look_at

EXAMPLES = Path(__file__).parents[2] / "examples"

JPEG = Compression("jpeg", 75)


def test_facts_move_as_their_names_say():
    """Blur takes detail, noise adds noise, a brighter picture has more light, grey no colour."""
    pixels = photo(1, 96, 96)
    plain = look_at(pixels, LOSSLESS)
    random = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(pixels, (3, 3, 0))
    noisy = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    assert look_at(blurred, LOSSLESS).detail < plain.detail < look_at(noisy, LOSSLESS).detail
    assert look_at(noisy, LOSSLESS).noise > plain.noise + 1
    assert look_at(pixels // 2, LOSSLESS).light < plain.light
    assert look_at(pixels // 2, LOSSLESS).contrast < plain.contrast
    assert look_at(grey, LOSSLESS).colour == 0 < plain.colour


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (700, 20), (64, 48)])
def test_any_size_has_facts(shape):
    facts = look_at(np.zeros((*shape, 3), np.uint8), LOSSLESS)
    assert np.isfinite(list(facts.numbers().values())).all()
    assert facts.trace == 0


def test_only_the_middle_of_a_large_picture_is_looked_at():
    """What lies far outside changes nothing, so that the cost has a bound."""
    large = np.zeros((1200, 900, 3), np.uint8)
    framed = large.copy()
    framed[:100] = 255
    assert look_at(large, JPEG) == look_at(framed, JPEG)


def larger(pixels, factor, kernel=Image.Resampling.BICUBIC):
    """The same number of pixels, once of fewer."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((round(width / factor), round(height / factor)))
    return np.asarray(small.resize((width, height), kernel))


@pytest.mark.parametrize("compression", [LOSSLESS, JPEG])
@pytest.mark.parametrize("kernel", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_soft_pictures(compression, kernel):
    """Softness rises with the factor of an earlier enlargement and with blur; noise is not soft."""
    pixels = np.asarray(Image.fromarray(photo(2, 512, 512)).resize((128, 128)))
    factors = [pixels, *(larger(pixels, factor, kernel) for factor in (1.5, 2, 3))]
    found = [look_at(each, compression).softness for each in factors]
    assert found == sorted(found)
    assert not is_soft(pixels, compression)
    assert all(is_soft(each, compression) for each in factors[1:])
    assert is_soft(ndimage.gaussian_filter(pixels, (1, 1, 0)), compression)
    noisy = pixels + np.random.default_rng(0).normal(0, 5, pixels.shape)
    assert not is_soft(np.clip(noisy, 0, 255).astype(np.uint8), compression)


@pytest.mark.parametrize("steps", [{}, {"reduction": "area"}, {"noise": 1}, {"sharpened": 1}])
@pytest.mark.parametrize("factor", [1.2, 1.5])
@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "lanczos"])
def test_an_enlargement_leaves_a_trace(steps, factor, kernel):
    """Of a reduced picture none is told; of the same one enlarged it is, also where it was cut."""
    for truth in examples():
        reduced = degrade(truth, 2, Degradation(**steps), 0)
        enlarged = degrade(truth, 2, Degradation(**steps, enlarged=factor, kernel=kernel), 0)
        found = [look_at(one, LOSSLESS).trace for one in (reduced, enlarged, enlarged[5:, 9:])]
        assert found[0] < TRACE <= min(found[1:]), found
        assert look_at(enlarged, JPEG).trace == 0


def test_a_little_blur_is_told():
    """Also where the picture still looks sharp."""
    for blur, is_told in ((0, False), (0.4, True)):
        made = [degrade(truth, 2, Degradation(blur=blur), 0) for truth in examples()]
        found = [look_at(one, LOSSLESS) for one in made]
        assert {one.blurred > 0 for one in found} == {is_told}
        assert any(one.is_nearly_soft for one in found) == is_told


def is_soft(pixels, compression):
    return look_at(pixels, compression).look in {"soft", "bilinear"}


@pytest.mark.parametrize("compression", [LOSSLESS, Compression("jpeg", 92)])
@pytest.mark.parametrize(
    ("steps", "look"),
    [
        ({"enlarged": 1.5, "kernel": "bilinear"}, "bilinear"),
        ({"enlarged": 1.5, "kernel": "lanczos"}, "soft"),
        ({"noise": 6}, "rough"),
        ({"noise": 4, "median": True}, "denoised"),
        ({"noise": 4, "variation": 0.08}, "denoised"),
        ({"noise": 4, "median": True, "sharpened": 1}, "smoothed"),
        ({}, "sharp"),
        ({"sharpened": 1}, "sharp"),
    ],
)
def test_looks(compression, steps, look):
    """Each is told of most pictures that were made so, and of few others."""
    made = [degrade(truth, 2, Degradation(**steps), seed) for seed, truth in enumerate(examples())]
    found = ["sharp" if one == "fine" else one for one in looks(made, compression)]
    assert found.count(look) >= len(found) - 1, found


def examples():
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLES.glob("*.png"))]


def looks(images, compression):
    return [look_at(image, compression).look for image in images]


def test_classes():
    """The class names the compression and the look; of soft pictures there are fewer qualities."""
    sharp = replace(look_at(photo(), JPEG), softness=0.0, bilinear=1.0, smoothed=-1.0)
    soft = replace(sharp, softness=1.0)
    smoothed = replace(soft, smoothed=1.0, denoised=-1.0)
    every = (sharp, soft, smoothed, replace(smoothed, denoised=1.0))
    assert names(every) == ["jpeg-68", *["soft/jpeg-30"] * 3]
    clear = [replace(each, compression=Compression("jpeg", 85)) for each in every]
    assert names(clear) == ["jpeg-80", "bilinear/jpeg-80", "smoothed/jpeg-80", "denoised/jpeg-80"]
    rough = [replace(each, noise=1.5, compression=LOSSLESS) for each in every]
    others = ["bilinear/lossless", "smoothed/lossless", "denoised/lossless"]
    assert names(rough) == ["lossless/fine", *others]
    assert names([replace(each, noisy=1.0) for each in rough]) == ["lossless/rough", *others]
    assert names([replace(sharp, noise=1.5)]) == ["jpeg-68"]


def names(found):
    return [classify(UPLOAD, each) for each in found]


def test_what_a_score_may_look_at():
    """Loss rises as the quality falls, and is 0 only without loss; codecs are told apart."""
    facts = look_at(photo(), LOSSLESS)
    codecs = (LOSSLESS, ("jpeg", 90), ("jpeg", 40), ("webp", 40), ("palette", None))
    found = [replace(facts, compression=Compression(*codec)).terms() for codec in codecs]
    assert [terms["loss"] for terms in found] == pytest.approx([0, 0.1, 0.6, 0.6, 0.5])
    assert [(terms["lossy"], terms["jpeg"]) for terms in found] == [
        (0, 0), (1, 1), (1, 1), (1, 0), (1, 0)
    ]  # fmt: skip
    assert {terms["softness"] for terms in found} == {round(facts.softness, 3)}


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
    [
        ("PNG", {}, LOSSLESS),
        ("WEBP", {"lossless": True}, LOSSLESS),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0"}, LOSSLESS),
        ("TIFF", {}, LOSSLESS),
        ("TIFF", {"compression": "tiff_lzw"}, LOSSLESS),
        ("TIFF", {"compression": "jpeg"}, Compression("other")),
        ("GIF", {}, Compression("palette")),
    ],
)
def test_other_files(form, options, expected):
    assert said(encoded(textured(), form, **options)) == expected


@pytest.mark.parametrize("quality", [20, 40, 64, 80, 95])
@pytest.mark.parametrize("side", [24, 128, 700])
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
        worst = worst_of(again.compression, again.rgb)
        assert class_of(worst) == "jpeg-50"
        assert worst_of(Compression("jpeg", 20), again.rgb) == ("jpeg", 20)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("quality", [45, 60, 75, 80, 85, 95])
    def test_saved_once(self, form, quality):
        for seed in range(4):
            once = decode(encoded(textured(seed), form, quality=quality), Limits())
            assert worst_of(once.compression, once.rgb) == once.compression

    def test_what_never_was_a_jpeg(self):
        for seed in range(30):
            assert resaved_quality(textured(seed)) is None
            assert resaved_quality(photo(seed, 128, 128)) is None
        assert resaved_quality(np.zeros((64, 64, 3), np.uint8)) is None
        assert resaved_quality(np.zeros((5, 7, 3), np.uint8)) is None


@pytest.mark.parametrize("look", ["sharp", "soft"])
@pytest.mark.parametrize("codec", list(EDGES))
def test_classes_cover_every_quality_once(codec, look):
    edges = edges_of(codec, look)
    names = [class_of(Compression(codec, q), look) for q in range(1, 101)]
    assert len(set(names)) == len(edges) + 1
    assert names == sorted(names, key=names.index)
    for name, edge in zip(sorted(set(names[edges[-1] :]), reverse=True), edges, strict=True):
        assert f"quality {edge} to" in class_in_words(name)
        assert ("soft" in class_in_words(name)) == (look == "soft")


def test_classes_of_other_rules():
    """A stored calibration may have classes of another rule: they are worded, or named."""
    assert class_in_words("webp-10") == "WebP of quality 10 to 19"
    for name in ("fine", "rough/jpeg-80", "jpeg-101", "jpeg", "gif-low"):
        assert class_in_words(name) == name


@pytest.mark.parametrize(
    ("look", "otherwise", "words"),
    [("bilinear", "soft", "soft"), ("smoothed", "sharp", "freed"), ("denoised", "sharp", "freed")],
)
def test_looks_that_only_clear_files_tell(look, otherwise, words):
    """Without loss and as JPEG from 80 on they are classes; elsewhere they are not told apart."""
    assert class_of(LOSSLESS, look) == f"{look}/lossless"
    names = {class_of(Compression("jpeg", q), look) for q in range(80, 101)}
    assert names == {f"{look}/jpeg-80"}
    assert class_in_words(f"{look}/jpeg-80").startswith(f"JPEG of quality 80 to 100, {words}")
    for other in [Compression("jpeg", 79), Compression("webp", 90), Compression("other")]:
        assert class_of(other, look) == class_of(other, otherwise)
