"""The promises of ResultStore and of stores of bytes."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta

import numpy as np
import pytest
from obstore.store import HTTPStore, MemoryStore

from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.images.encoding.encode import write_picture
from trustscale_server.platform.errors import ConfigError, NotFound
from trustscale_server.stores.blobs import Blobs, open_blobs
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.spool import IN_MEMORY, spooled
from trustscale_server.stores.sqlite import SqliteDocuments

ALL = timedelta(minutes=-1)

HOSTILE = ["../up", "/etc/passwd", "..", ".", "a/../../b", "a\\b", "c:d", "%2e%2e%2f", "ü \n", "~"]


class TestResults:
    async def test_comes_back(self, opener):
        view = np.arange(3, dtype="<f4").data.cast("B")
        blobs = {"image.png": io.BytesIO(b"\x00\xff"), "mask.png": b"", "own.f32": view}
        await opener().results.put("r", b'{"a":1}', blobs)
        results = opener().results
        assert await results.document("r") == b'{"a":1}'
        assert await results.blob("r", "image.png") == b"\x00\xff"
        assert await results.blob("r", "mask.png") == b""
        with await results.file("r", "image.png") as file:
            assert file.read() == b"\x00\xff"
        assert await results.blob("r", "own.f32") == bytes(view)
        for missing in (results.document("s"), results.blob("s", "i"), results.file("r", "i")):
            with pytest.raises(NotFound):
                await missing

    async def test_first_stays(self, stores):
        await stores.results.put("r", b"first", {"a": b"1"})
        await stores.results.put("r", b"second", {"b": b"2"})
        assert await stores.results.document("r") == b"first"
        with pytest.raises(NotFound):
            await stores.results.blob("r", "b")

    async def test_expired_before_any_sweep(self, stores):
        """It is gone, and another one takes its place."""
        await stores.results.put("r", b"old", {"a": b"1"}, ttl_s=0.05)
        async with asyncio.timeout(60):
            while await stores.results.has("r"):  # noqa: ASYNC110 - time has no event
                await asyncio.sleep(0.01)
        with pytest.raises(NotFound):
            await stores.results.blob("r", "a")
        await stores.results.put("r", b"new", {})
        assert await stores.results.document("r") == b"new"

    async def test_an_upload_does_not_wait_for_all_that_is_too_much(self, opener):
        """Where the limit was lowered, each one removes a few results and a sweep the others."""
        results = opener().results
        for number in range(30):
            await results.put(f"r{number}", b"", {"a": bytes(1000)})
        removed = []
        lowered = opener(max_result_bytes=1000, removed=removed.append).results
        await lowered.put("new", b"", {"a": bytes(1000)})
        assert removed == ["space"] * 8
        await lowered.put("newer", b"", {"a": bytes(1000)})
        assert removed == ["space"] * 16
        assert await lowered.sweep() == 15
        assert await lowered.has("newer")

    async def test_what_is_extended_stays_longer_and_leaves_last(self, opener):
        """Its size and place follow; what is gone cannot be extended, and nothing gets shorter."""
        results = opener(max_result_bytes=2500).results
        await results.put("r", b"old", {"a": bytes(1000)}, ttl_s=60)
        await results.put("s", b"", {"a": bytes(1000)})
        _, before = await results.kept("r")
        assert await results.extend("r", b"newer", ttl_s=3600) > before + 3000
        document, expires = await results.kept("r")
        assert document == b"newer"
        assert (await results.space()).used == 2005
        assert await results.extend("r", b"newer", ttl_s=1) == expires
        with pytest.raises(NotFound):
            await results.extend("gone", b"", ttl_s=60)
        await results.put("t", b"", {"a": bytes(1000)})
        assert await results.has("r")
        assert not await results.has("s")

    async def test_sweep_removes_the_expired(self, stores):
        results = stores.results
        await results.put("kept", b"{}", {})  # the first put of a process may sweep, too
        await results.put("gone", b"{}", {"a": b"1"}, ttl_s=0.05)
        async with asyncio.timeout(60):
            while not (swept := await results.sweep()):  # noqa: ASYNC110 - time has no event
                await asyncio.sleep(0.01)
        assert (swept, await results.sweep()) == (1, 0)
        assert await results.document("kept") == b"{}"

    async def test_size_limit(self, opener):
        """Above the limit those that were stored first go, however long they would have lived."""
        removed: list[str] = []
        stores = opener(max_result_bytes=10_500, removed=removed.append)
        for i in range(10):
            await stores.results.put(f"r{i}", b"{}", {"a": bytes(1000)}, ttl_s=90 - i)
        assert removed == []
        await stores.results.put("r10", b"{}", {"a": bytes(1000)}, ttl_s=1000)
        # A tenth of the limit is freed at once, so the next one removes nothing.
        assert removed == ["space", "space"]
        await stores.results.put("r11", b"{}", {"a": bytes(1000)}, ttl_s=5)
        assert removed == ["space", "space"]
        assert [i for i in range(12) if await stores.results.has(f"r{i}")] == list(range(2, 12))
        folders = {name.split(":")[0] for name in await stores.blobs.untouched(ALL)}
        assert folders == {f"result-r{i}" for i in range(2, 12)}

    async def test_the_newest_stays(self, opener):
        """What was just made is kept, although it alone is above the limit."""
        results = opener(max_result_bytes=2500).results
        for name in ("r", "huge"):
            await results.put(name, b"{}", {"a": bytes(5000)})
        assert [await results.has(name) for name in ("r", "huge")] == [False, True]

    async def test_no_room_made(self, opened, monkeypatch):
        """What is stored is stored, also if nothing could be removed to make room for it."""

        async def fail(_):
            raise StoreUnavailable("The disk is on fire.")

        stores = opened(max_result_bytes=1)
        await stores.results.put("old", b"{}", {})
        monkeypatch.setattr(stores.blobs, "delete", fail)
        await stores.results.put("r", b"{}", {})
        assert await stores.results.document("r") == b"{}"

    async def test_a_lost_answer(self, opened, monkeypatch):
        """A result that the index has kept, although it could not say so, is whole."""
        stores, change = opened(), SqliteDocuments.change

        async def lost(*args, **settings):
            await change(*args, **settings)
            raise StoreUnavailable("No answer in time.")

        monkeypatch.setattr(SqliteDocuments, "change", lost)
        with pytest.raises(StoreUnavailable):
            await stores.results.put("r", b"{}", {"a": b"1"})
        assert await stores.results.blob("r", "a") == b"1"

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_names(self, stores, name):
        """Any text is a distinct id and name; none reaches another result or a file."""
        await stores.results.put("r", b"{}", {"a": b"1"})
        with pytest.raises(NotFound):
            await stores.results.document(name)
        with pytest.raises(NotFound):
            await stores.results.blob("r", name)
        await stores.results.put(name, b"doc", {name: b"blob"})
        assert await stores.results.document(name) == b"doc"
        assert await stores.results.blob(name, name) == b"blob"
        assert await stores.results.document("r") == b"{}"

    async def test_race_of_puts(self, doors):
        await asyncio.gather(
            *(doors[i % 3].results.put("r", b"%d" % i, {"a": b"%d" % i}) for i in range(15))
        )
        assert await doors[0].results.document("r") == await doors[1].results.blob("r", "a")
        assert len(await doors[0].blobs.untouched(ALL)) == 1


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.servers)])
def blobs_url(request, tmp_path):
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return f"file://{tmp_path}/shared"


@pytest.fixture
def doors_to(blobs_url, tmp_path):
    """Opens the same bytes again and again, as several processes do."""
    return lambda: open_blobs(blobs_url, tmp_path)


@pytest.fixture
def blobs(doors_to):
    return doors_to()


class TestBlobs:
    async def test_comes_back(self, doors_to):
        blobs = doors_to()
        names = ["x/1.png", "y/1.png", *HOSTILE]
        for name in names:
            await blobs.put("job", name, name.encode())
        await blobs.put("other", "x/1.png", b"other")
        await blobs.put("job", "x/1.png", b"replaced")
        again = doors_to()
        assert await again.get("job", "x/1.png") == b"replaced"
        assert await again.get("job", "../up") == b"../up"
        large = np.random.default_rng(0).bytes(IN_MEMORY + 1)
        await blobs.put("other", "../up", spooled(lambda out: out.write(large)))
        with await again.file("other", "../up") as file:
            await again.delete("other")
            assert file.read() == large
        with pytest.raises(NotFound):
            await again.file("other", "../up")
        assert await again.names("job") == sorted(names)
        assert await again.names("other") == []

    async def test_created_once(self, doors_to):
        doors = [doors_to() for _ in range(4)]
        told = await asyncio.gather(
            *(doors[i % 4].create("job", "labels/a", b"%d" % i) for i in range(24))
        )
        assert sum(told) == 1
        assert await doors[0].get("job", "labels/a") == b"%d" % told.index(True)
        assert await doors[1].names("job") == ["labels/a"]

    async def test_folders(self, blobs):
        with pytest.raises(NotFound):
            await blobs.get("job-1", "a")
        await blobs.put("job-1", "a", b"1")
        await blobs.put("job-2", "x/a", b"2")
        assert await blobs.untouched(timedelta(minutes=1)) == []
        assert await blobs.untouched(ALL) == ["job-1", "job-2"]
        for _ in range(2):
            await blobs.delete("job-1")
        assert await blobs.names("job-1") == []
        assert await blobs.get("job-2", "x/a") == b"2"

    async def test_identity(self, doors_to, tmp_path):
        assert await doors_to().identity() == await doors_to().identity()
        assert await open_blobs(None, tmp_path).identity() != await doors_to().identity()


async def test_a_slow_store_holds_no_thread():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.to_thread(int)  # waits for the only thread
        writer.write(b"2")
        writer.close()

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        store = HTTPStore.from_url(url, client_options={"allow_http": True, "timeout": "20s"})
        assert (await Blobs(store).file("job", "x")).read() == b"12"


async def test_no_folder_for_temporary_files(tmp_path, monkeypatch):
    """The start says so; where it is lost later, large files are 503, and no missing ones."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "no"))
    for candidates in (lambda: [str(tmp_path)], list):
        monkeypatch.setattr("tempfile._candidate_tempdir_list", candidates)
        monkeypatch.setattr("tempfile.tempdir", None)
        with pytest.raises(ConfigError, match="TMPDIR"):
            await open_parts(Settings(data_dir=tmp_path), AsyncExitStack())
    blobs = Blobs(MemoryStore())
    await blobs.put("job", "x", bytes(IN_MEMORY + 1))
    with pytest.raises(StoreUnavailable):
        await blobs.file("job", "x")
    assert spooled(write_picture, np.zeros((9, 9, 3), np.uint8), "jpeg").read(2) == b"\xff\xd8"
