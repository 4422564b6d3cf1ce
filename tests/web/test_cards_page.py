"""Cards and checks on the page: a card goes out, and tells what it is when it comes back."""

import json

import pytest
from PIL import Image
from playwright.sync_api import expect

from harness.browser import TOUCH, barriers, jargon
from harness.factories import encoded
from harness.waiting import block_until
from tests.proof.test_check import SMALL, TRUTH
from tests.web.admin import upload
from tests.web.pictures import crop, open_result, ready, take
from trustscale_server.proof.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.servers]


def test_a_card_goes_and_comes_back(open_page):
    """The browser changes nothing of it; dropped on the page it says what it is, before anything is
    enlarged; by the keyboard alone.
    """
    page = open_page("/")
    open_result(page)
    card = take(page, "Card").path().read_bytes()
    found = verify(card)
    assert (found.kind, found.pixels) == ("card", "unchanged")
    posts = []
    page.on("request", lambda one: one.method == "POST" and posts.append(one.url))
    page.set_input_files("#files", [upload(card, "card.jpeg")])
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Its pixels have not changed since it was marked.")
    expect(dialog).to_contain_text(found.check)
    assert barriers(page) == []
    assert jargon(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert [url.rpartition("/v1/")[2] for url in posts] == ["verify"]

    page.set_input_files("#files", [upload(card, "card.jpeg")])
    expect(dialog).to_contain_text("Its pixels")
    dialog.get_by_role("button", name="Enlarge it anyway").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("card.jpeg")


def test_a_file_without_a_mark_is_checked_on_request(open_page):
    page = open_page("/")
    ready(page)
    for data, words in ((crop(), "No mark of ours."), (b"no picture", "is not a PNG")):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Check a picture").press("Enter")
        chooser.value.set_files([upload(data, "a.png")])
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(words)
        assert barriers(page) == []
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)


def test_two_pictures_are_checked_against_each_other(open_page):
    """One may be made of the other: a dialog offers it, shows where it contradicts, or enlarges."""
    patched = TRUTH.copy()
    patched[100:164, 60:124] = 255 - patched[100:164, 60:124]
    files = [
        upload(encoded(picture), name)
        for picture, name in ((patched, "large.png"), (SMALL, "small.png"))
    ]
    page = open_page("/")
    ready(page)
    page.set_input_files("#files", files)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("large.png (384 × 384) may be made of small.png (96 × 96).")
    assert barriers(page) == []
    dialog.get_by_role("button", name="Check the large one").press("Enter")
    expect(dialog).to_contain_text("contradicts the small one at")
    expect(dialog.locator("rect").first).to_be_visible()
    expect(dialog.get_by_role("listitem").first).to_contain_text("Here the large picture is")
    assert barriers(page) == []
    assert jargon(page) == []
    with page.expect_download() as saving:
        dialog.get_by_role("button", name="Download a card").press("Enter")
    assert saving.value.suggested_filename == "large.check.jpeg"
    with Image.open(saving.value.path()) as card:
        assert (card.format, card.width, card.height > 384) == ("JPEG", 384, True)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    page.set_input_files("#files", files)
    dialog.get_by_role("button", name="Enlarge both").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


SHARING = """() => {
  window.shared = [];
  navigator.canShare = ({ files }) => Boolean(files);
  navigator.share = async ({ files, url }) =>
    shared.push(files ? [files[0].name, files[0].type] : url);
}"""


def test_sharing_sends_the_card(open_page):
    """A phone's sheet gets the file, or the link where it takes no files."""
    page = open_page("/", **TOUCH)
    open_result(page)
    page.evaluate(SHARING)
    page.click("#share-link")
    block_until(lambda: page.evaluate("shared.length") == 1)
    assert page.evaluate("shared[0]") == ["piece.card.jpeg", "image/jpeg"]
    page.evaluate("navigator.canShare = () => false")
    page.click("#share-link")
    block_until(lambda: page.evaluate("shared.length") == 2)
    assert "/r/res-" in json.dumps(page.evaluate("shared[1]"))
