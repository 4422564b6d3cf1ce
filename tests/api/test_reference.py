"""The page at /docs says what the OpenAPI document says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from app.api.reference import render


class Balanced(HTMLParser):
    """Fails on a tag that is closed and not open."""

    VOID = frozenset({"meta", "link"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_everything_is_there(client):
    """Every operation and every document, each reached from where it is named."""
    text = client.get("/docs").text
    document = client.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method in item:
            assert f"<h3>{method.upper()} {path}</h3>" in text
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    upscale = text[text.index('id="POST-v1-upscale"') :].partition("</section>")[0]
    for word in (
        "image",
        "alpha",
        "seed",
        "multipart/form-data",
        "/problems/bad-image",
        "required",
    ):
        assert word in upscale
    page = Balanced()
    page.feed(text)
    assert page.open == []


def test_texts_are_texts():
    """What a document says is never markup."""
    evil = '<script>"&'
    text = render(
        {
            "info": {"title": evil, "version": evil},
            "paths": {
                f"/{evil}": {
                    "get": {
                        "tags": [evil],
                        "description": evil,
                        "parameters": [
                            {"name": evil, "in": "query", "description": evil, "schema": {}}
                        ],
                        "responses": {"200": {"description": evil, "content": {evil: {}}}},
                    }
                }
            },
            "components": {"schemas": {evil: {"description": evil, "enum": [evil]}}},
        }
    )
    assert "<script" not in text
    assert '"&' not in text.replace('"&amp;', "").replace('"&lt;', "")
