"""Groups as tables and requests name them."""

from __future__ import annotations

import pytest

from app.calibration.groups import parse_groups
from app.errors import BadRequest


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            '{"a": "day", "b": "night"}',
            ' {"a": "day", "b": "night"}',
            "name,group\na,day\nb,night\n",
            "file,size,group\r\na.png,3,day\r\nb.jpeg,4, night \r\n",
            "name,group\na,day\nb,night\na,day\n",
        ],
    )
    def test_forms(self, text):
        """JSON, or CSV with the name or the file of each pair."""
        assert parse_groups(text) == {"a": "day", "b": "night"}

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_nothing(self, text):
        """An empty field is no groups."""
        assert parse_groups(text) == {}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "not a JSON object of texts"),
            ('{"a": 3}', "groups is not a JSON object of texts"),
            ("day,night", "needs a column name or file"),
            ("name,camera\na,b", "no column 'group'"),
            ("name,group\na,day\na,night", "twice"),
            ('name,group\n"a,day', "not CSV"),
            ('{"a": ""}', "no name"),
            ('{"a": " day"}', "spaces"),
            ('{"a": "d\\u0000y"}', "control"),
            ('{"a": "' + 101 * "x" + '"}', "more than 100"),
            ("[" * 100_000, "needs a column"),
            ("{" + '"a":{' * 100_000, "not a JSON object"),
        ],
    )
    def test_refuses(self, text, words):
        """What cannot be read is said in a sentence."""
        with pytest.raises(BadRequest) as caught:
            parse_groups(text)
        assert words in caught.value.detail
        assert len(caught.value.detail) < 250
