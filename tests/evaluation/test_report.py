"""The report: whole, readable anywhere, and without a reference to anything outside it."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from app.evaluation.report import FIGURES, REPORT, SUMMARY, render

FIGURE_NAMES = (
    "fake-figure-1-gallery",
    "fake-figure-2-error-and-mask",
    "fake-figure-4-psnr-and-leakage",
    "fake-figure-6-baselines",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(written) -> ET.Element:
    """The report, which is well-formed XML besides being HTML."""
    return ET.fromstring((written / REPORT).read_text("utf-8"))


class TestPage:
    def test_nothing_outside(self, written, page):
        """No script, style sheet, image, font or link lies elsewhere; inner ones lead somewhere."""
        names = {element.tag.rpartition("}")[2] for element in page.iter()}
        assert not names & {"script", "link", "iframe", "object", "embed", "base", "foreignObject"}
        ids = [e.attrib["id"] for e in page.iter() if "id" in e.attrib]
        assert len(ids) == len(set(ids))
        for element in page.iter():
            for key, value in element.attrib.items():
                if key.rpartition("}")[2] in {"href", "src", "srcset", "action", "data"}:
                    assert value.startswith("data:image/") or value.removeprefix("#") in ids, value
                assert not key.startswith("on")
        styles = re.findall(r"url\(([^)]*)\)|@import", (written / REPORT).read_text("utf-8"))
        assert all(style.startswith("#") for style in styles)

    def test_every_picture(self, page):
        """Each figure is inline, has a name for those who do not see it, and a caption."""
        figures = list(page.iter("figure"))
        assert len(figures) == len(FIGURE_NAMES)
        for figure in figures:
            shown = figure[0]
            assert shown.attrib.get("alt") or shown.attrib["aria-label"]
            assert "".join(figure.find("figcaption").itertext()).strip()

    def test_light_dark_and_print(self, written):
        """The page and the pictures follow their surroundings: only the page names the ink."""
        text = (written / REPORT).read_text("utf-8")
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text
        assert text.count("#1f2328") == 1
        assert "var(--ink)" in text

    def test_the_numbers_are_on_it(self, page, findings):
        """Headline, findings and limits, and one row for every setting and α."""
        words = " ".join("".join(page.itertext()).split())
        verdict = findings.verdict
        for sentence in (verdict.headline, *verdict.findings, *verdict.limits):
            assert sentence in words
        assert "synthetic annotator" in words
        (table,) = [t for t in page.iter("table") if "The paper's Table 1" in "".join(t.itertext())]
        assert len(list(table.find("tbody").iter("tr"))) == len(findings.rows)

    def test_classes(self, as_served):
        """A report of what is served has a row for every class of uploads."""
        page = ET.fromstring(render(as_served))
        (table,) = [t for t in page.iter("table") if "curve of its own" in "".join(t.itertext())]
        rows = list(table.find("tbody").iter("tr"))
        assert len(rows) == sum(row.input_class is not None for row in as_served.rows) > 10


class TestFiles:
    @pytest.mark.parametrize("name", FIGURE_NAMES)
    def test_figures(self, written, name):
        """Each figure is an SVG that stands alone, or a JPEG, and a CSV of its numbers."""
        folder = written / FIGURES
        if name.split("-")[2] in "24":
            drawing = (folder / f"{name}.svg").read_text("utf-8")
            assert ET.fromstring(drawing).tag.endswith("}svg")
            assert "--ink: #e6edf3" in drawing
        else:
            with Image.open(folder / f"{name}.jpg") as image:
                assert image.width > 300
        rows = list(csv.reader((folder / f"{name}.csv").read_text("utf-8").splitlines()))
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}

    def test_table(self, written, findings):
        """table.csv holds every row with the numbers of the findings."""
        rows = list(csv.DictReader((written / "table.csv").read_text("utf-8").splitlines()))
        assert len(rows) == len(findings.rows)
        for read, row in zip(rows, findings.rows, strict=True):
            assert read["variant"] == row.variant
            assert float(read["area"]) == row.quantities["area"].mean

    def test_summary(self, written, findings):
        """report.json is strict JSON with the verdict, the settings and the baselines."""
        summary = json.loads((written / SUMMARY).read_text("utf-8"), parse_constant=pytest.fail)
        assert summary["headline"] == findings.verdict.headline
        assert (summary["calibration_images"], summary["test_images"]) == (28, 12)
        assert summary["upscalers"][0]["variants"][0]["name"] == "paper"
        methods = {row["method"].partition(" ")[0] for row in summary["baselines"]}
        assert methods == {"none", "intervals", "continuous"}
