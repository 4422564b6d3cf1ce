"""Cards of stored results, and what the service can tell of a file."""

import io

import numpy as np
import pytest
from PIL import Image

from harness.credentials import new_chain
from harness.factories import encoded, photo
from harness.gateway import check_problem, post
from trustscale_server.images.encoding.png import to_bytes
from trustscale_server.proof.verify import verify
from trustscale_server.serving.card_file import CardOptions, write_card
from trustscale_server.serving.document import Result
from trustscale_server.serving.left_out import LeftOut


def card_of(client, answer, form="png", **params):
    made = client.get(f"{answer['links']['self']}/card.{form}", params=params)
    assert made.status_code == 200, made.text
    assert made.headers["content-type"] == f"image/{form}"
    return made.content


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_a_card_says_what_it_is(client, answer, form):
    """It has the picture with a strip below, and a mark about exactly its pixels."""
    data = card_of(client, answer, form)
    found = verify(data)
    assert (found.mark, found.kind, found.pixels) == ("xmp", "card", "unchanged")
    assert found.upscaler == answer["upscaler"]
    assert found.alpha == answer["alpha"]
    assert found.trusted_fraction == answer["trusted_fraction"]
    assert found.promise == answer["guarantee"]["plain"]
    assert opened(data).shape[0] > answer["height"]


def test_the_picture_on_a_card(client, answer):
    """By default it is the believed picture; hatched it is the overlay; nothing lies over it."""
    for look, part in (("soft", "believed"), ("hatched", "overlay")):
        made = opened(card_of(client, answer, look=look))
        shown = opened(client.get(answer["links"][part]).content)
        height, width = shown.shape[:2]
        left = (made.shape[1] - width) // 2
        assert np.array_equal(made[:height, left : left + width], shown)


def test_the_strip(client, answer):
    """It is light or dark, and has other words for another α."""
    light, dark = (opened(card_of(client, answer, theme=theme)) for theme in ("light", "dark"))
    assert light[-1, 0].min() > 240
    assert dark[-1, 0].max() < 30
    other = opened(card_of(client, answer, alpha=0.5))
    assert not np.array_equal(other[answer["height"] :], light[answer["height"] :])


def test_an_alpha_chosen_after_looking_has_no_promise(client, answer):
    """A calibration in expectation promises nothing of it, and the card says so."""
    found = verify(card_of(client, answer, alpha=0.5))
    assert answer["guarantee"]["kind"] == "expectation"
    assert found.alpha == 0.5
    assert found.promise is None


def test_the_number_on_a_card_is_that_of_its_picture(client, answer):
    picture = client.get(answer["links"]["image"]).content
    number = verify(card_of(client, answer)).check
    assert len(number) == 14
    assert number == verify(card_of(client, answer, "jpeg", look="hatched", theme="dark")).check
    assert picture


def test_transparent_pictures(client):
    """They stay so in PNG and WebP, and lie on the paper of the strip in JPEG."""
    pixels = np.dstack([photo(2, 24, 24), np.full((24, 24), 255, np.uint8)])
    pixels[:8] = 0
    answer = post(client, encoded(pixels)).json()
    for form in ("png", "webp"):
        made = opened(card_of(client, answer, form))
        assert made[0, made.shape[1] // 2, 3] == 0
        assert made[-1, 0, 3] == 255
    assert opened(card_of(client, answer, "jpeg"))[0, 150].min() > 240


def test_what_has_no_card(client, answer):
    """An unknown result, one without a mask, and no α; no other form."""
    check_problem(client.get("/v1/results/res-unknown/card.png"), "not-found")
    plain = post(client, mask="none").json()
    check_problem(client.get(f"{plain['links']['self']}/card.png"), "not-found")
    at = f"{answer['links']['self']}/card"
    check_problem(client.get(f"{at}.png?alpha=-1"), "bad-alpha")
    assert client.get(f"{at}.gif").status_code in {404, 422}
    assert client.get(f"{at}.png?look=neon").status_code == 422


class TestVerify:
    @staticmethod
    def ask(client, data):
        answer = client.post("/v1/verify", files={"image": data})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def test_a_card(self, client, answer):
        found = self.ask(client, card_of(client, answer, "jpeg"))
        assert (found["mark"], found["kind"], found["pixels"]) == ("xmp", "card", "unchanged")
        assert found["promise"] == answer["guarantee"]["plain"]

    def test_a_card_that_came_by_mail(self, client):
        """Its mark is gone; what it looks like is said, and nothing is claimed."""
        answer = post(client, encoded(photo(1, 150, 200))).json()
        out = io.BytesIO()
        Image.open(io.BytesIO(card_of(client, answer))).save(out, "JPEG", quality=80)
        found = self.ask(client, out.getvalue())
        assert (found["mark"], found["pixels"], found["promise"]) == ("none", None, None)
        assert "looks like one of our cards" in found["sentences"][1]

    def test_a_stranger(self, client):
        found = self.ask(client, encoded(photo(1, 40, 40), "JPEG"))
        assert found["mark"] == "none"
        assert found["what"] == "No mark of ours."

    def test_what_is_no_picture(self, client):
        for data, problem in ((b"%PDF-1.7", "unsupported-media"), (b"", "bad-image")):
            check_problem(client.post("/v1/verify", files={"image": data}), problem)
        damaged = encoded(photo(1, 40, 40))[:-300]
        check_problem(client.post("/v1/verify", files={"image": damaged}), "bad-image")
        check_problem(client.post("/v1/verify"), "bad-request", 422)


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
async def test_signed_cards(serve, form):
    """With a certificate cards are signed; the service knows itself, others see a stranger."""
    certificates, key, _ = new_chain()
    settings = {"credentials": certificates + key}
    async with serve(**settings) as served:
        answer = (await served.post()).json()
        made = await served.client.get(f"{answer['links']['self']}/card.{form}")
        found = (await served.client.post("/v1/verify", files={"image": made.content})).json()
    assert (found["mark"], found["pixels"], found["signed"]) == ("signed", "unchanged", "known")
    assert found["signed_by"] == "Signer"
    assert found["promise"] == answer["guarantee"]["plain"]
    assert "Signed by “Signer”, whom this service knows." in found["sentences"]
    assert verify(made.content).signed == "valid"
    if form == "png":  # whose parts have sums of their own
        return
    forged = bytearray(made.content)
    place = forged.rindex(b"trustscale:share>") - 8
    forged[place : place + 1] = b"7"
    assert verify(bytes(forged)).signed == "invalid"


def test_faces_are_framed(client, answer):
    """What the answer left out as a face has a frame, and the caption says why."""
    result = Result.model_validate(answer)
    box = [(10, 8), (30, 8), (30, 28), (10, 28)]
    face = LeftOut(kind="face", box=box, why="A face.")
    files = [client.get(answer["links"][part]).content for part in ("image", "mask")]
    plain, framed = (
        opened(to_bytes(write_card)(one, CardOptions(one.alpha), *files, encoded(photo(1, 24, 24))))
        for one in (result, result.model_copy(update={"left_out": [face]}))
    )
    left = (plain.shape[1] - answer["width"]) // 2
    changed = (plain[: answer["height"]] != framed[: answer["height"]]).any(axis=2)
    assert changed[7, left + 10 : left + 30].all()
    assert not changed[8:28, left + 10 : left + 30].any()
    assert len(framed) > len(plain)  # a sentence more
