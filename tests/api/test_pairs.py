"""What the page asks about the names of files."""

from __future__ import annotations

import pytest

from tests.api.gateway import AS_ADMIN, check_problem
from tests.calibration.test_layout import by_name, layouts


@layouts
def test_the_one_rule(admin, paths, pairs, items):
    """The page is told what a folder or an archive of these names would make."""
    answer = admin.post_names(sorted(paths))
    assert by_name(answer["items"]) == items
    assert [pair["name"] for pair in answer["pairs"]] == [p.split(": ")[0] for p in pairs]
    assert answer["groups"] == sorted({p.split(" in ")[1] for p in pairs if " in " in p})


def test_folders_as_groups(admin):
    """Folders of truths are groups only where that is asked for."""
    names = ["p/a.png", "q/a.png"]
    assert admin.post_names(names)["pairs"] == []
    assert admin.post_names(names, folders=True)["groups"] == ["p", "q"]


@pytest.mark.parametrize("body", [{}, {"names": "a"}, {"names": [1]}, {"names": [], "more": 1}])
def test_what_is_no_list_of_names(admin, body):
    """A body that is something else is refused."""
    response = admin.client.post("/v1/admin/pairs/check", json=body, headers=AS_ADMIN)
    check_problem(response, "bad-request")
