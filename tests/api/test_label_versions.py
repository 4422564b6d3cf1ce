"""Two annotators over HTTP: a label never replaces one that its author has not seen."""

from __future__ import annotations

import asyncio

import pytest

from app.calibration import labels
from app.errors import Conflict, NotFound, Superseded
from app.stores.files import FileSpool
from tests.api.admin import Admin, label, truth_files
from tests.api.gateway import check_problem, pixels

SEMANTIC = {"fidelity": {"metric": "semantic"}}
BLACK, SQUARE = label(differs=False), label(differs=True)


@pytest.fixture
def path(admin, upscaler) -> str:
    """The path of the label of a pair that awaits it."""
    job = admin.ended(admin.post_files(truth_files(2), **SEMANTIC))
    return f"/{job['id']}/pairs/000/label.png"


def put(admin: Admin, path: str, data: bytes, **headers: str):
    return admin.send(
        "PUT", path, content=data, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


class TestConcurrency:
    def test_second_writer_is_told(self, admin, path):
        """Of two who have seen the same label the second gets 412, and nothing of his is stored."""
        assert put(admin, path, BLACK, if_none_match="*").headers["etag"] == '"v1"'
        assert put(admin, path, BLACK, if_none_match="*").status_code == 412
        assert put(admin, path, SQUARE, if_match='"v1"').headers["etag"] == '"v2"'
        refused = put(admin, path, BLACK, if_match='"v1"')
        assert refused.status_code == 412
        problem = refused.json()
        assert (problem["type"], problem["status"]) == ("/problems/conflict", 412)
        assert problem["version"] == 2
        shown = admin.send("GET", path)
        assert shown.headers["etag"] == '"v2"'
        assert pixels(shown.content).any()

    def test_newest_counts(self, admin, path):
        """The calibration is made with the newest version."""
        job = path.split("/")[1]
        put(admin, path, SQUARE)
        put(admin, path, BLACK)
        put(admin, path.replace("000", "001"), BLACK)
        made = admin.made(admin.send("POST", f"/{job}/finish"))
        assert made["thresholds"][-1]["trusted_fraction"] == 1
        assert not pixels(admin.send("GET", path.replace(job, made["id"])).content).any()

    @pytest.mark.parametrize(
        "headers",
        [{"if_match": "*"}, {"if_match": '"x"'}, {"if_none_match": '"v1"'}],
        ids=str,
    )
    def test_foreign_conditions(self, admin, path, headers):
        """A condition that is not understood is refused, not ignored."""
        check_problem(put(admin, path, BLACK, **headers), "bad-request")


class TestStorage:
    async def test_one_of_many_wins(self, tmp_path):
        """Of all who have seen the same version exactly one creates the next."""
        spools = [FileSpool(tmp_path) for _ in range(4)]
        await labels.save(spools[0], "job", "a.b", b"first", seen=0)
        told = await asyncio.gather(
            *(labels.save(spools[i % 4], "job", "a.b", b"%d" % i, seen=1) for i in range(16)),
            return_exceptions=True,
        )
        (winner,) = [i for i, outcome in enumerate(told) if outcome == 2]
        assert sum(isinstance(outcome, Superseded) for outcome in told) == 15
        assert await labels.read(spools[0], "job", "a.b") == (b"%d" % winner, 2)

    async def test_versions_have_no_gap(self, tmp_path):
        """Who names a version that never was is refused, and cannot hide what there is."""
        spool = FileSpool(tmp_path)
        await labels.save(spool, "job", "a", b"1", seen=0)
        with pytest.raises(Superseded) as refused:
            await labels.save(spool, "job", "a", b"9", seen=8)
        assert refused.value.members == {"version": 1}
        assert await labels.read(spool, "job", "a") == (b"1", 1)

    async def test_saved_too_often(self, tmp_path, monkeypatch):
        """The number of versions has an end, since it is a part of the file's name."""
        monkeypatch.setattr(labels, "MOST_VERSIONS", 2)
        spool = FileSpool(tmp_path)
        for seen in (0, 1):
            await labels.save(spool, "job", "a", b"x", seen=seen)
        with pytest.raises(Conflict, match="too often"):
            await labels.save(spool, "job", "a", b"x", seen=None)

    async def test_unconditional_writers_all_count(self, tmp_path):
        """Writers without a condition get versions of their own."""
        spool = FileSpool(tmp_path)
        told = await asyncio.gather(
            *(labels.save(spool, "job", "a", b"%d" % i, seen=None) for i in range(8))
        )
        assert sorted(told) == list(range(1, 9))

    async def test_newest_is_found_without_a_list(self, tmp_path, monkeypatch):
        """Reading and saving a label list no files, whatever its version is."""
        spool = FileSpool(tmp_path)
        monkeypatch.setattr(spool, "names", None)
        for version in range(1, 20):
            assert await labels.save(spool, "job", "a", b"%d" % version, seen=None) == version
            assert await labels.read(spool, "job", "a") == (b"%d" % version, version)
        with pytest.raises(NotFound):
            await labels.read(spool, "job", "b")

    async def test_newest_of_many_is_found_soon(self, tmp_path, monkeypatch):
        """A label that is saved at every pause of the hand is not read in all of its versions."""
        spool = FileSpool(tmp_path)
        for version in range(200):
            await labels.save(spool, "job", "a", b"%d" % version, seen=version)
        asked = []

        async def get(job, name, get=spool.get):
            asked.append(name)
            return await get(job, name)

        monkeypatch.setattr(spool, "get", get)
        assert await labels.read(spool, "job", "a") == (b"199", 200)
        assert len(asked) <= 20

    def test_versions_of_files(self):
        """Only label files count, whatever their pairs are called."""
        names = ["labels/a", "labels.2/a", "labels.10/a", "labels/labels.7", "y/a", "labels.x/a"]
        assert labels.versions(names) == {"a": 10, "labels.7": 1}
