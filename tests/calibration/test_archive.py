"""Hostile and damaged archives: nothing is unpacked blindly, and every refusal is one of ours."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from app.calibration.archive import ArchiveLimits, Entry, read_archive
from app.errors import BadRequest, ImageTooLarge, TrustscaleError, UnsupportedMedia

FILES = {"y/a.png": b"first", "y/b.png": b"second" * 40, "x/a.png": b""}


def zipped(files, method=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def member(name: str, data: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tarred(*members, form: str = "", style: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{form}", format=style) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def plain_tar(form: str = "") -> bytes:
    return tarred(*(member(name, data) for name, data in FILES.items()), form=form)


TEN = [member(f"y/{k}.png", bytes(1000)) for k in range(10)]


def read(data: bytes, **limits) -> list[Entry]:
    return list(read_archive(io.BytesIO(data), ArchiveLimits(**limits)))


def read_or_refuse(data: bytes) -> list[Entry]:
    """The entries, or nothing after an error of ours, told in one sentence."""
    try:
        return read(data)
    except TrustscaleError as error:
        if not error.detail.endswith(".") or "\n" in error.detail:
            raise AssertionError(error.detail) from error
        return []


class TestReading:
    @pytest.mark.parametrize(
        "data",
        [
            *(
                zipped(FILES, method)
                for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
            ),
            zipped(FILES, zipfile.ZIP_LZMA),
            *(plain_tar(form) for form in ("", "gz", "bz2", "xz")),
            tarred(*(member(*item) for item in FILES.items()), style=tarfile.GNU_FORMAT),
            tarred(*(member(*item) for item in FILES.items()), style=tarfile.USTAR_FORMAT),
        ],
    )
    def test_every_form(self, data):
        """Zip and tar, compressed or not, give their files in order."""
        assert read(data) == [Entry(tuple(n.split("/")), d) for n, d in FILES.items()]

    def test_folders(self):
        """Entries of folders, and a leading `./`, mean nothing."""
        data = tarred(member("./y", type=tarfile.DIRTYPE), member("./y/a.png", b"x"))
        assert read(data) == [Entry(("y", "a.png"), b"x")]
        assert read(zipped({"set/": b"", "set/y/a.png": b"x"})) == [
            Entry(("set", "y", "a.png"), b"x")
        ]

    def test_long_names(self):
        """Names that need an extra header of a tar file are read."""
        name = "y/" + "a" * 200 + ".png"
        for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            assert read(tarred(member(name, b"x"), style=style))[0].parts[-1] == name[2:]

    def test_empty(self):
        """An archive without files is one."""
        assert read(zipped({})) == []
        assert read(tarred()) == []

    def test_one_file_in_memory(self):
        """Files are read one at a time."""
        data = zipped({f"y/{k}.png": os.urandom(2_000_000) for k in range(8)}, zipfile.ZIP_STORED)
        file = io.BytesIO(data)
        tracemalloc.start()
        for _ in read_archive(file, ArchiveLimits()):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 7_000_000


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../a.png",
            "y/../../a.png",
            "/etc/passwd",
            "//server/a.png",
            "C:/a.png",
            "y/a.png:stream",
            "y\\..\\a.png",
            "y/\n.png",
            "y/\x1b[2J.png",
        ],
    )
    def test_refused(self, name):
        """Names that leave the folder, mean a device or are no text."""
        with pytest.raises(BadRequest):
            read(tarred(member(name, b"x")))
        with pytest.raises(BadRequest):
            read(zipped({name: b"x"}))

    def test_bytes_that_are_no_text(self):
        """A name that is not UTF-8 is refused, for it could not be told in JSON."""
        info = tarfile.TarInfo("y/\udcff.png")
        data = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + bytes(1024)
        with pytest.raises(BadRequest):
            read(data)

    @pytest.mark.parametrize("second", ["y/A.png", "Y/a.png", "./y/a.png", "y//a.png", "y/a.png"])
    def test_the_same_name(self, second):
        """Names that some file systems cannot tell apart."""
        with pytest.raises(BadRequest, match="same name"):
            read(tarred(member("y/a.png", b"1"), member(second, b"2")))

    @pytest.mark.parametrize("inner", ["y.zip", "y/a.tar.gz", "y/A.TGZ", "y/b.7z"])
    def test_archives_inside(self, inner):
        """An archive inside the archive is not looked into."""
        with pytest.raises(BadRequest, match="inside the archive"):
            read(zipped({inner: zipped(FILES)}))

    def test_an_archive_behind_another_name(self):
        """A tar file that ends with a zip file is a tar file, not that zip file."""
        data = tarred(member("y/a.png", zipped({"y/hidden.png": b"x"}, zipfile.ZIP_STORED)))
        assert [entry.parts[-1] for entry in read(data)] == ["a.png"]


class TestKinds:
    @pytest.mark.parametrize(
        "kind",
        [
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
        ],
    )
    def test_links_and_devices_in_tar(self, kind):
        """Only files are read."""
        with pytest.raises(BadRequest, match="link or a device"):
            read(tarred(member("y/a.png", type=kind, linkname="/etc/passwd")))

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
    def test_links_and_devices_in_zip(self, kind):
        """Also of a zip file, which keeps the kind among the attributes."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            info = zipfile.ZipInfo("y/a.png")
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        with pytest.raises(BadRequest, match="link or a device"):
            read(out.getvalue())

    def test_encrypted(self):
        """A password is not asked for."""
        data = bytearray(zipped({"y/a.png": b"x"}, zipfile.ZIP_STORED))
        data[6] |= 1  # the flag, of the member and in the directory
        data[data.index(b"PK\x01\x02") + 8] |= 1
        with pytest.raises(BadRequest, match="encrypted"):
            read(bytes(data))

    @pytest.mark.parametrize("data", [b"", b"x", b"text" * 1000, b"\x89PNG\r\n\x1a\n", b"Rar!\x1a"])
    def test_other_files(self, data):
        """What is neither zip nor tar is told so."""
        with pytest.raises(UnsupportedMedia):
            read(data)


class TestBounds:
    def test_files(self):
        """Thousands of tiny files are refused, whatever the form."""
        names = [f"y/{k}.png" for k in range(5000)]
        tar = b"".join(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT) for name in names[:1001])
        for data in (zipped(dict.fromkeys(names, b""), zipfile.ZIP_STORED), tar):
            with pytest.raises(ImageTooLarge) as caught:
                read(data, max_files=1000)
            assert caught.value.members["limit"] == "max_files"

    def test_a_long_list(self):
        """The list of a zip file is counted before it is parsed."""
        one = zipped({"y/a.png": b""})
        start = one.index(b"PK\x01\x02")
        end = one.index(b"PK\x05\x06")
        for count in (900, 300_000):  # in one piece, and too long to be read at all
            listed = one[start:end] * count
            data = (
                one[:start] + listed + one[end : end + 12] + struct.pack("<II", len(listed), start)
            )
            tracemalloc.start()
            with pytest.raises(ImageTooLarge) as caught:
                read(data + bytes(2), max_files=800)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert caught.value.members["limit"] == "max_files"
            assert peak - len(data) < 2_000_000  # parsed, they take 300 MB

    @pytest.mark.parametrize("form", ["", "gz", "bz2", "xz"])
    def test_skipped_members(self, form):
        """What is skipped must be unpacked all the same, so it counts."""
        data = tarred(*(member(f"__MACOSX/{k}", bytes(1_000_000)) for k in range(20)), form=form)
        if not form:
            assert read(data) == []
            return
        with pytest.raises(ImageTooLarge) as caught:
            read(data, free_bytes=5_000_000)
        assert caught.value.members["limit"] == "max_ratio"

    @pytest.mark.parametrize(
        ("data", "limit", "enough", "less"),
        [
            (zipped({"y/a.png": bytes(2000)}), "max_file_bytes", 2000, 1999),
            (tarred(member("y/a.png", bytes(2000))), "max_file_bytes", 2000, 1999),
            (tarred(*TEN, form="gz"), "max_total_bytes", 100_000, 9999),
        ],
    )
    def test_bytes(self, data, limit, enough, less):
        """Members over a limit are refused, one from its header, or all together."""
        assert read(data, **{limit: enough})
        with pytest.raises(ImageTooLarge) as caught:
            read(data, **{limit: less})
        assert caught.value.members["limit"] == limit

    def test_lying_header(self):
        """A header that names a smaller size than the content has does not let it in."""
        data = bytearray(zipped({"y/a.png": bytes(10_000_000)}))
        directory = data.index(b"PK\x01\x02")
        data[directory + 24 : directory + 28] = struct.pack("<I", 100)
        with pytest.raises(BadRequest):
            read(bytes(data), max_file_bytes=1000)

    def test_ratio(self):
        """A small archive that becomes huge is refused once its free share is used up."""
        files = {f"y/{k}.png": bytes(1_000_000) for k in range(20)}
        for data in (zipped(files), tarred(*(member(*f) for f in files.items()), form="gz")):
            assert len(data) < 100_000
            with pytest.raises(ImageTooLarge) as caught:
                read(data, free_bytes=5_000_000)
            assert caught.value.members["limit"] == "max_ratio"

    def test_black_labels(self):
        """Labels of one colour compress well, and are let through."""
        assert len(read(zipped({f"labels/{k}.png": bytes(5000) for k in range(1000)}))) == 1000

    def test_huge_headers(self):
        """A name of gigabytes in a compressed tar file is not read into memory."""
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
        data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
        with pytest.raises(BadRequest, match="header"):
            read(data)

    def test_sparse_files(self):
        """A sparse file of a tar archive cannot claim to be larger than the limit."""
        info = tarfile.TarInfo("y/a.png")
        info.type = tarfile.GNUTYPE_SPARSE
        data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        data[483:495] = b"77777777777\0"  # its real size
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        with pytest.raises(TrustscaleError):
            read(bytes(data) + bytes(1024))


class TestDamage:
    @pytest.mark.parametrize("data", [zipped(FILES), plain_tar(), plain_tar("gz")])
    def test_cut_anywhere(self, data):
        """An archive that was cut is refused or, for a tar file between members, shorter."""
        whole = len(read(data))
        for end in range(0, len(data), 7):
            assert len(read_or_refuse(data[:end])) <= whole

    def test_cut_inside_a_file(self):
        """Half a file is never passed on."""
        data = tarred(member("y/a.png", bytes(5000)))
        with pytest.raises(BadRequest):
            read(data[:3000])
