"""What a mask promises is one sentence, wherever it is not about one answer."""

import inspect

from examples.integrations import mcp_server
from harness.blocks import ROOT
from trustscale_server import TRUSTED
from trustscale_server.cli.upscale_options import RequestOptions
from trustscale_server.http.openapi import ABOUT
from trustscale_server.serving.request import UpscaleOptions

PAGES = ("docs/for-photographers.md", "docs/faq.md", "examples/integrations/mcp_server.py")


def words(text):
    return " ".join(text.split())


def test_trusted_is_one_sentence():
    """Program, API, the pages for people and the tool for agents say the same, word for word."""
    alpha = inspect.get_annotations(RequestOptions, eval_str=True)["alpha"].__metadata__[0]
    said = [ABOUT, alpha.help, UpscaleOptions.model_fields["alpha"].description]
    said += [(ROOT / page).read_text("utf-8") for page in PAGES]
    assert [text[:60] for text in said if TRUSTED not in words(text)] == []
    assert TRUSTED in mcp_server.RULE


def test_it_says_what_holds():
    """An average, over calibrations too, of errors that are cut; nothing of one picture."""
    for part in ("on average over calibrations", "counted up to 0.25", "a single picture may"):
        assert part in TRUSTED
