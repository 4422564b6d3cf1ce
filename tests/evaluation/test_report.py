"""What is said of the numbers, and the report: whole, with no reference to anything outside it."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import pytest

from trustscale_evaluation.report import REPORT, SUMMARY, errors_in_words
from trustscale_evaluation.verdict import HEADLINES, judge
from trustscale_server.conformal.fidelity import FidelitySettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(written):
    return ET.fromstring((written / REPORT).read_text("utf-8"))


def test_nothing_outside(written, page):
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


def test_summary(written, findings):
    summary = json.loads((written / SUMMARY).read_text("utf-8"), parse_constant=pytest.fail)
    assert summary["headline"] == findings.verdict.headline
    assert (summary["calibration_images"], summary["test_images"]) == (16, 8)
    assert summary["upscalers"][0]["variants"][0]["name"] == "paper"
    methods = {row["method"].partition(" ")[0] for row in summary["baselines"]}
    assert methods == {"none", "intervals", "continuous"}


def judged(findings, *, main="consistent", other="consistent"):
    """The verdict if the main promise and one other had these statuses, and the rest were not."""
    rows = []
    for row in findings.rows:
        status = None if row.alpha is None else "consistent"
        if (row.variant, row.alpha) == ("paper", 0.2):
            status = main
        elif (row.variant, row.alpha) == ("pointwise", 0.1):
            status = other
        rows.append(replace(row, status=status))
    return judge(findings.results, rows, findings.plan, findings.options)


@pytest.mark.parametrize(
    ("main", "other", "outcome"),
    [("consistent", "consistent", "consistent"), ("consistent", "within", "consistent"),
     ("within", "consistent", "undecided"), ("consistent", "broken", "mixed"),
     ("within", "broken", "mixed"), ("broken", "consistent", "broken"),
     ("nothing", "consistent", "nothing")],
)  # fmt: skip
def test_the_main_promise_decides(findings, main, other, outcome):
    """The headline is that of one promise fixed in advance; others that broke are not hidden."""
    verdict = judged(findings, main=main, other=other)
    headline = HEADLINES[outcome].format(images="8 pictures")
    assert (verdict.outcome, verdict.headline) == (outcome, headline)
    assert "kept" not in " ".join([headline, *verdict.findings])
    words = " ".join(verdict.findings)
    assert ("broken beyond" in words) == ("broken" in (main, other))
    if other == "broken":
        assert "pointwise, α = 0.1" in words


def test_what_errors_are(findings, written):
    """Each unit is explained, and those of data are no colours."""
    assert "Errors are colour differences (L1 in normalised CIELAB)" in (
        written / REPORT
    ).read_text("utf-8")

    def of(*metrics):
        cells = [
            SimpleNamespace(pipeline=SimpleNamespace(fidelity=FidelitySettings(metric=metric)))
            for metric in metrics
        ]
        return errors_in_words(replace(findings, results=[SimpleNamespace(cells=cells)]))

    assert of("intensity") == (
        "Errors are differences of values: 0 is exact, and 0.01 is a hundredth of the stretch, "
        "from its lowest value to its highest."
    )
    both = of("intensity", "pointwise", "neighborhood")
    assert both.startswith("Errors of intensity are differences of values")
    assert " Errors of neighborhood and pointwise are colour differences" in both
