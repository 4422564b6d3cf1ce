"""The page at /docs says what the OpenAPI document says."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from app.api.reference import render


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
    fields = ("image", "alpha", "seed", "multipart/form-data")
    assert all(word in upscale for word in (*fields, "/problems/bad-image"))
    ET.fromstring(text)  # well-formed


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
