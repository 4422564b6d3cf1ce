"""The page of the calibrations, used as an admin uses it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from playwright.sync_api import expect

from app.calibration import file
from tests.api.gateway import aside
from tests.factories import calibration_of, encoded, photo
from tests.fakes import FakeUpscaler
from tests.web.admin import BASE, MARKUP, Api, signed_in, truths
from tests.web.browser import ADMIN_KEY, LOOKS, PHONE, barriers, fits

pytestmark = [pytest.mark.slow, pytest.mark.servers]


@pytest.fixture(scope="module")
def made(api) -> str:
    """The id of a calibration of 20 pairs whose names are nasty."""
    files = truths(19, first=200)
    files[f"y/{MARKUP}.png"] = encoded(photo(299, 48, 48))
    return api.made(files, name=f"{MARKUP} streets")


def active(api: Api, upscaler: str = "fast") -> str:
    (found,) = [one["calibration"] for one in api.get("/v1/upscalers") if one["name"] == upscaler]
    return str(found)


def files_of(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


class TestCreate:
    def test_from_the_key_to_the_activation(self, open_page, admin_site, api, tmp_path):
        """Key, images with mistakes, settings, progress, curve, activation, and the way back."""
        watched = open_page("/calibrations", url=admin_site)
        page = watched.page
        page.get_by_role("dialog").get_by_label("Admin key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Use this key").click()
        page.get_by_role("link", name="New calibration").click()
        assert page.evaluate("Object.keys(localStorage)") == []

        contents = {f"{k:03}.png": encoded(photo(k, 48, 48)) for k in range(5)}
        contents |= {"twin.png": encoded(photo(3, 48, 48)), f"{MARKUP}.png": b"no image"}
        page.get_by_label("Accepted error α").fill("0.025")
        page.locator("input[data-role=y]").set_input_files(files_of(tmp_path / "few", contents))
        expect(page.locator("[data-verdict=few]")).to_contain_text("14 more are needed")
        refused = page.locator(".callout.warn .items")
        expect(refused).to_contain_text("twin: the same image as 003")
        expect(refused).to_contain_text(f"{MARKUP}: not a PNG, JPEG or WebP image")
        more = {f"{k:03}.jpg": encoded(photo(k, 48, 48), "JPEG") for k in range(10, 27)}
        page.locator("input[data-role=y]").set_input_files(files_of(tmp_path / "more", more))
        expect(page.locator("[data-verdict=enough]")).to_contain_text("22 pairs are enough")
        page.get_by_label("Name", exact=True).fill(f"{MARKUP} clicked")
        page.get_by_label("Calls of the model per picture").fill("3")
        expect(page.locator("#cost")).to_contain_text(
            "462 calls of the model now, each original as 7 kinds of upload, then 3 calls"
        )
        expect(page.locator(".way")).to_have_count(3)
        assert barriers(page) == []
        watched.screenshot("calibrations-new-light")
        page.get_by_role("button", name="Upload and calibrate").click()

        expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} clicked")
        page.wait_for_url("**/calibrations?id=cal-*")
        made = page.url.rpartition("=")[2]
        found = api.get(f"{BASE}/{made}")
        assert (found["n"], found["pipeline"]["samples"]) == (22, 3)
        before = active(api)
        page.get_by_role("button", name="Activate").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(made)
        expect(dialog).to_contain_text(before)
        expect(dialog.locator("#changes")).to_contain_text(
            re.compile("Trusted at 0.025: .* % → .* %.*Smallest α: .* → ", re.DOTALL)
        )
        dialog.get_by_role("button", name="Activate").click()
        expect(page.locator(".page-head .badge.trust")).to_have_text("active")
        assert active(api) == made
        expect(page.locator(".audit")).to_contain_text("This one was activated in place of")
        page.get_by_role("button", name="Back to", exact=False).click()
        page.get_by_role("dialog").get_by_role("button", name="Back to", exact=False).click()
        # The service may advise against the way back, and asks once more.
        anyway = page.get_by_role("button", name="Activate anyway")
        ready = page.locator(".page-head .badge", has_text="ready")
        expect(anyway.or_(ready)).to_be_visible()
        if anyway.is_visible():
            anyway.click()
        expect(ready).to_be_visible()
        assert active(api) == before

    def test_pairs_of_a_folder(self, open_page, admin_site, tmp_path):
        """X and Y are told apart by their folders, matched by name, and compared in size."""
        pairs = tmp_path / "pairs"
        pairs.mkdir()
        inputs = {f"{k}.png": encoded(photo(k, 24, 24)) for k in range(3)}
        files_of(pairs / "x", {**inputs, "alone.png": encoded(photo(50, 24, 24))})
        truth = {f"{k}.webp": encoded(photo(k, 48, 48), "WEBP") for k in range(2)}
        files_of(pairs / "y", {**truth, "2.webp": encoded(photo(2, 48, 40), "WEBP")})
        page = signed_in(open_page, admin_site, "/calibrations?new").page
        page.locator("input[webkitdirectory]").set_input_files(pairs)
        expect(page.locator(".tally")).to_contain_text("2 pairs")
        refused = page.locator(".callout.warn .items")
        expect(refused).to_contain_text("2: the original is 40×48, but 2× the size")
        expect(refused).to_contain_text("alone: y/ has no image of this name")
        page.get_by_role("button", name="Remove all").click()
        expect(page.locator(".tally")).to_have_count(0)
        page.locator(".drop-zone").evaluate(
            """(zone, bytes) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
                zone.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
            }""",
            list(encoded(photo(7, 48, 48))),
        )
        expect(page.locator(".tally")).to_contain_text("1 original")
        missed = """body => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["x"], "x.png"));
            const init = { dataTransfer, bubbles: true, cancelable: true };
            const passes = (name) => body.dispatchEvent(new DragEvent(name, init));
            return ["dragover", "drop"].map(passes);
        }"""
        assert page.locator("body").evaluate(missed) == [False, False]
        page.locator("[name=size]").evaluate("field => { field.value = ''; }")
        page.get_by_role("button", name="Upload and calibrate").click()
        expect(page.locator("[name=size]")).to_be_focused()

    def test_groups_and_promises(self, open_page, admin_site, api, tmp_path):
        """Folders below y/ are groups with curves of their own; the promise can be another one."""
        (tmp_path / "pairs" / "y").mkdir(parents=True)
        for group, first in (("day", 600), ("night", 620)):
            images = {f"{k}.png": encoded(photo(first + k, 48, 48)) for k in range(2)}
            files_of(tmp_path / "pairs" / "y" / group, images)
        page = signed_in(open_page, admin_site, "/calibrations?new").page
        page.locator("input[webkitdirectory]").set_input_files(tmp_path / "pairs")
        expect(page.locator(".tally")).to_contain_text("4 originals")
        page.get_by_role("button", name="Upload and calibrate").click()
        page.wait_for_url("**/calibrations?id=cal-*")
        made = page.url.rpartition("=")[2]
        groups = {one["group"]: one["n"] for one in api.get(f"{BASE}/{made}")["groups"]}
        assert groups == {"day": 2, "night": 2}
        page.get_by_role("link", name="night (2)").click()
        expect(page.locator(".tile").first).to_contain_text("Scenes2")
        page.get_by_role("button", name="Another promise").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("surer")
        dialog.get_by_label("Method").select_option("wsr")
        dialog.get_by_label("Risk of a bad draw").fill("0.014")
        dialog.get_by_role("button", name="Make it").click()
        page.wait_for_url(lambda url: "id=cal-" in url and made not in url)
        expect(page.get_by_role("heading", level=1)).to_have_text("surer")
        promise = page.locator(".tile", has_text="Default α")
        expect(promise).to_contain_text("with probability 98.6 %")
        assert api.get(f"{BASE}/{page.url.rpartition('=')[2]}")["guarantee"]["method"] == "wsr"

    def test_the_service_has_the_last_word(self, open_page, admin_site, tmp_path):
        """What only the service notices is listed, item by item, and the form stays."""
        two = {f"{name}.png": encoded(photo(k, 48, 48)) for k, name in enumerate("ab")}
        page = signed_in(open_page, admin_site, "/calibrations?new").page
        archive = tmp_path / "pairs.zip"
        archive.write_bytes(b"PK not really")
        page.get_by_label("Use an archive…").set_input_files(archive)
        page.get_by_role("button", name="Upload and calibrate").click()
        expect(page.get_by_role("alert")).to_contain_text("archive")
        page.get_by_role("button", name="Remove", exact=True).click()
        expect(page.get_by_role("button", name="Upload and calibrate")).to_be_disabled()
        page.get_by_label("Use an archive…").set_input_files(archive)
        page.locator("input[data-role=y]").set_input_files(files_of(tmp_path / "two", two))
        expect(page.locator(".toast")).to_contain_text("take the place of pairs.zip")
        items = [{"name": "b", "reason": MARKUP}]
        refusal = {"type": "/problems/bad-pairs", "detail": "One pair.", "items": items}
        page.route(f"**{BASE}", lambda route: route.fulfill(status=422, json=refusal))
        page.get_by_role("button", name="Upload and calibrate").click()
        expect(page.get_by_role("alert")).to_contain_text(f"b: {MARKUP}")


class TestJob:
    def test_cancelled_while_it_runs(self, open_page, admin_site, api):
        """A running job shows its progress, and ends when it is cancelled."""
        job = api.create(truths(40), upscaler="slow", name=MARKUP)
        page = signed_in(open_page, admin_site, "/calibrations").page
        card = page.locator(f".job[data-id='{job}']")
        expect(card).to_contain_text(MARKUP)
        expect(card).to_contain_text("running")
        expect(card).to_contain_text(re.compile("[1-9] of 40 pairs"))
        card.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
        expect(card).to_have_count(0)
        assert api.ended(job)["state"] == "cancelled"

    def test_failed(self, open_page, admin_site, api):
        """The page of a failed job says why, and names the pairs."""
        whole = encoded(photo(0, 48, 48))
        job = api.create({"y/a.png": whole[: len(whole) // 2]})
        assert api.ended(job)["state"] == "failed"
        page = signed_in(open_page, admin_site, f"/calibrations?id={job}").page
        expect(page.get_by_role("alert")).to_contain_text("a: ")

    def test_failed_while_watched(self, open_page, admin_site):
        """The list keeps the card of a job that fails, with the reason."""
        job = {"id": "job-1", "state": "running", "name": None, "upscaler": "fast"}
        job |= {"metric": "semantic (synthetic labels)", "created_at": "2026-01-01T00:00:00Z"}
        job["progress"] = {"done": 1, "total": 2, "unit": "pairs"}
        failed = {**job, "state": "failed", "error": {"title": "No", "detail": MARKUP}}
        stream = {"content_type": "text/event-stream", "body": f"data: {json.dumps(failed)}\n\n"}
        page = signed_in(open_page, admin_site, "/healthz").page
        page.route("**/v1/jobs/job-1/events", lambda route: route.fulfill(**stream))
        page.route(f"**{BASE}?state=pending", lambda route: route.fulfill(json=[job]), times=1)
        page.goto("/calibrations")
        card = page.locator(".job")
        expect(card.get_by_role("alert")).to_contain_text(MARKUP)
        expect(card).to_contain_text("failed")


class TestDetail:
    def test_charts_and_pictures(self, open_page, admin_site, made):
        """Curves can be read by pointer, keys and table, and taken away; pairs have pictures."""
        watched = signed_in(open_page, admin_site, f"/calibrations?id={made}")
        page = watched.page
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} streets")
        expect(page.locator(".dominant")).to_have_count(5)
        expect(page.locator(".picture img")).to_have_count(15)
        risk = page.locator("figure.chart", has_text="Risk curve")
        risk.locator("svg").hover(position={"x": 200, "y": 100})
        expect(risk.locator(".chart-readout")).to_contain_text("Risk R(t): 0.")
        risk.locator("svg").press("End")
        expect(risk.get_by_role("status")).to_contain_text("Risk R(t)")
        backtest = page.locator("figure.chart", has_text="Backtest")
        backtest.get_by_role("button", name="Table").click()
        # All tabled α, none of them below B/(n+1) = 0.024; and the origin of the dashed line.
        expect(backtest.locator("tbody tr")).to_have_count(9)
        with page.expect_download() as saved:
            risk.get_by_role("button", name="SVG").click()
        drawing = ET.parse(saved.value.path()).getroot()
        assert "class" not in drawing.attrib
        assert any(node.get("stroke", "").startswith("rgb") for node in drawing.iter())
        page.get_by_text("20 pairs by name").click()
        expect(page.get_by_role("cell", name=MARKUP, exact=True)).to_be_visible()
        page.locator(".picture button").first.click()
        expect(page.get_by_role("dialog").locator("img")).to_be_visible()
        page.keyboard.press("Escape")
        assert barriers(page) == []
        watched.screenshot("calibrations-detail-light")

    def test_curve_as_csv(self, open_page, admin_site, api, made):
        """The CSV of the risk curve holds every point that the API has."""
        page = signed_in(open_page, admin_site, f"/calibrations?id={made}").page
        with page.expect_download() as saved:
            page.locator("figure.chart", has_text="Risk curve").get_by_role(
                "button", name="CSV"
            ).click()
        rows = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text("utf-8"))))
        wanted = [[point["threshold"], point["risk"]] for point in api.get(f"{BASE}/{made}/curve")]
        assert [[float(cell) for cell in row] for row in rows[1:]] == wanted

    @pytest.mark.parametrize("look", LOOKS, ids=str)
    def test_every_screen(self, open_page, admin_site, made, look):
        """List, form and detail fit every screen, without barriers, and ask for nothing in vain."""
        watched = signed_in(open_page, admin_site, "/calibrations", **look)
        page, missing = watched.page, []
        page.on("response", lambda one: one.status == 404 and missing.append(one.url))
        size = f"{look['viewport']['width']}-{look['color_scheme']}"
        for name, path, seen in (
            ("list", "/calibrations", ".pipeline:not(:empty)"),
            ("new", "/calibrations?new", "#cost"),
            ("detail", f"/calibrations?id={made}", "figure.chart svg"),
        ):
            page.goto(path)
            expect(page.locator(seen).first).to_be_visible()
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert fits(page)
            assert barriers(page) == []
            watched.screenshot(f"calibrations-{name}-{size}")
        assert missing == []

    def test_worse_needs_force(self, open_page, admin_site, api):
        """Worse is said in amber, trusting nothing beside the button; a refusal is insisted on."""
        made = api.made(truths(3, first=700))
        page = signed_in(open_page, admin_site, f"/calibrations?id={made}").page
        expect(page.locator(".nothing-trusted")).to_contain_text("trusts nothing at its default")
        asked = []

        def refuse(route):
            asked.append(route.request.post_data)
            conflict = {"type": "/problems/conflict", "detail": "It trusts 0 % instead of 50 %."}
            if "force" in str(route.request.post_data):
                done = {"upscaler": "fast", "calibration": made, "previous": None}
                route.fulfill(json=done)
            else:
                route.fulfill(status=409, json=conflict)

        page.route("**/activate", refuse)
        page.get_by_role("button", name="Activate").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator("#changes.warn")).to_contain_text("Trusted at 0.1")
        dialog.get_by_role("button", name="Activate").click()
        expect(dialog).to_contain_text("It trusts 0 % instead of 50 %.")
        dialog.get_by_role("button", name="Activate anyway").click()
        expect(page.locator(".toast")).to_contain_text("is active now")
        assert json.loads(asked[1]) == {"force": True}

    def test_compared_on_a_phone(self, open_page, admin_site, api, made):
        """Two are chosen in the list and laid over each other; what differs is named."""
        watched = signed_in(
            open_page, admin_site, "/calibrations", viewport=PHONE, color_scheme="dark"
        )
        page = watched.page
        for chosen in (made, active(api)):
            page.locator(f"tr[data-id='{chosen}'] input").check()
        page.get_by_role("button", name="Compare two").click()
        expect(page.locator(".chart-step")).to_have_count(2)
        areas = page.get_by_role("region", name="Trusted area at common α")
        expect(areas).to_contain_text("points")
        differing = page.get_by_role("region", name="Differing settings")
        expect(differing.get_by_role("row", name="scenes 20 30")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        watched.screenshot("calibrations-compare-phone-dark")

        def other(route):
            found = route.fetch().json()
            fidelity = {"metric": "semantic", "labels": "synthetic", "bound": 1, "blur": 4}
            route.fulfill(json={**found, "pipeline": {**found["pipeline"], "fidelity": fidelity}})

        page.route(f"**{BASE}/{made}", other)
        page.reload()
        expect(page.locator(".callout.warn").first).to_contain_text("They bound different errors")
        assert "clip_quantile" not in differing.inner_text()
        page.goto(f"/calibrations?id={made}")
        bounds = page.locator(".tile", has_text="It bounds")
        expect(bounds).to_contain_text("a synthetic annotator (a rule, not a person)")
        page.goto(f"/calibrations?compare={made}")
        expect(page.get_by_role("alert")).to_contain_text("Two calibrations are needed")

    def test_exported_deleted_imported(self, open_page, admin_site, api):
        """A calibration leaves as a file and comes back as the same; its pictures do not."""
        made = api.made(truths(3, first=400), default_alpha=0.8)
        page = signed_in(open_page, admin_site, f"/calibrations?id={made}").page
        with page.expect_download() as saved:
            page.get_by_role("button", name="Export").click()
        assert saved.value.suggested_filename == f"{made}.calibration"
        kept = saved.value.path()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.wait_for_url("**/calibrations")
        expect(page.locator("tr[data-id]").first).to_be_visible()
        expect(page.locator(f"tr[data-id='{made}']")).to_have_count(0)
        page.get_by_label("Calibration file").set_input_files(kept)
        expect(page.locator(f"tr[data-id='{made}']")).to_be_visible()
        page.goto(f"/calibrations?id={made}")
        expect(page.locator(".pictures-gone")).to_contain_text("are not kept")

        page.goto("/calibrations")
        present = api.client.get(f"{BASE}/{active(api)}/export").content
        again = {"name": "a.calibration", "mimeType": "", "buffer": present}
        page.get_by_label("Calibration file").set_input_files(again)
        expect(page.locator(".toast")).to_contain_text("is stored. It is active.")

    def test_of_another_upscaler(self, open_page, admin_site, tmp_path):
        """What was calibrated with another upscaler is marked, and refused in words."""
        foreign = aside(calibration_of(FakeUpscaler("fast", fingerprint="fake:0"), 3))
        path = tmp_path / "foreign.calibration"
        path.write_bytes(file.dump(foreign))
        page = signed_in(open_page, admin_site, "/calibrations").page
        page.get_by_label("Calibration file").set_input_files(path)
        row = page.locator(f"tr[data-id='{foreign.id}']")
        expect(row.locator(".badge.bad")).to_have_text("mismatch")
        row.get_by_role("button", name="Activate").click()
        page.get_by_role("dialog").get_by_role("button", name="Activate").click()
        expect(page.get_by_role("alert")).to_contain_text("fingerprint")
        row.get_by_role("link").click()
        expect(page.locator(".callout.bad")).to_contain_text("fake:0")

    def test_extended_and_shortened(self, open_page, admin_site, api, tmp_path):
        """Pairs are added to a calibration, and left out of it; each makes a new one."""
        made = api.made(truths(3, first=500))
        page = signed_in(open_page, admin_site, f"/calibrations?id={made}").page
        page.get_by_role("link", name="Add pairs").click()
        more = {f"{MARKUP}.png": encoded(photo(510, 48, 48))}
        page.locator("input[data-role=y]").set_input_files(files_of(tmp_path / "m", more))
        page.get_by_role("button", name="Upload and calibrate").click()
        page.wait_for_url(lambda url: "id=cal-" in url and made not in url)
        longer = page.url.rpartition("=")[2]
        expect(page.get_by_role("link", name=made)).to_be_visible()
        page.get_by_text("4 pairs by name").click()
        page.get_by_role("button", name=f"Leave out {MARKUP}").click()
        page.get_by_role("dialog").get_by_role("button", name="Make one without it").click()
        page.wait_for_url(lambda url: "id=cal-" in url and longer not in url)
        expect(page.locator(".items", has_text=MARKUP)).to_contain_text("removed by key")
        numbers = [api.get(f"{BASE}/{one}")["n"] for one in (longer, page.url.rpartition("=")[2])]
        assert numbers == [4, 3]

    def test_the_active_one_stays(self, open_page, admin_site, api):
        """The active calibration cannot be deleted, and the page says why."""
        page = signed_in(open_page, admin_site, f"/calibrations?id={active(api)}").page
        delete = page.get_by_role("button", name="Delete")
        expect(delete).to_be_disabled()
        expect(delete).to_have_accessible_description(re.compile("activate another one first"))
