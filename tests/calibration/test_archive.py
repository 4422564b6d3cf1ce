"""Hostile and damaged archives: nothing is unpacked blindly, and every refusal is one of ours."""

import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from harness.admin import zipped
from trustscale_server.calibrating.intake.archive import ArchiveLimits, archive_files
from trustscale_server.platform.errors import (
    BadRequest,
    ImageTooLarge,
    TrustscaleError,
    UnsupportedMedia,
)

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
FILES = {"y/a.png": b"first", "y/b.png": b"second" * 40, "x/a.png": b""}


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tarred(*members, form="", style=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{form}", format=style) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_of(files, **options):
    return tarred(*(member(name, data) for name, data in files.items()), **options)


def read(data, **limits):
    files = archive_files(io.BytesIO(data), ArchiveLimits(**limits))
    return [(file.path, file.read()) for file in files]


class TestReading:
    @pytest.mark.parametrize(
        "data",
        [
            *(zipped(FILES, method) for method in METHODS),
            *(tar_of(FILES, form=form) for form in ("", "gz")),
            *(tar_of(FILES, style=style) for style in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)),
        ],
    )
    def test_every_form(self, data):
        assert read(data) == [*FILES.items()]

    @pytest.mark.parametrize(
        ("data", "names"),
        [
            (tarred(member("./y", type=tarfile.DIRTYPE), member("./y/a.png")), ["y/a.png"]),
            (zipped({"set/": b"", "set/y/a.png": b""}), ["set/y/a.png"]),
            *((tarred(member("y/" + "a" * 200), style=style), ["y/" + "a" * 200])
              for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
            (tarred(), []), (zipped({}), []),
            # A tar file that ends with a zip file is a tar file, not that zip file.
            (tar_of({"y/a.png": zipped({"hidden": b""}, zipfile.ZIP_STORED)}), ["y/a.png"]),
        ],
    )  # fmt: skip
    def test_names(self, data, names):
        """Folders and a leading `./` mean nothing; names may need a header of their own."""
        assert [path for path, _ in read(data)] == names


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *("../a.png", "y/../../a.png", "/etc/passwd", "//server/a.png", "C:/a.png"),
            *("y/a.png:stream", "y\\..\\a.png", "y/\n.png", "y/\x1b[2J.png"),
        ],
    )
    @pytest.mark.parametrize("archive", [tar_of, zipped])
    def test_refused(self, archive, name):
        with pytest.raises(BadRequest):
            read(archive({name: b"x"}))

    def test_bytes_that_are_no_text(self):
        """A name that is not UTF-8 is refused, for it could not be told in JSON."""
        info = tarfile.TarInfo("y/\udcff.png")
        data = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + bytes(1024)
        with pytest.raises(BadRequest):
            read(data)

    @pytest.mark.parametrize("second", ["y/A.png", "Y/a.png", "./y/a.png", "y//a.png", "y/a.png"])
    def test_the_same_name(self, second):
        with pytest.raises(BadRequest, match="same name"):
            read(tarred(member("y/a.png", b"1"), member(second, b"2")))

    @pytest.mark.parametrize("inner", ["y.zip", "y/a.tar.gz", "y/A.TGZ", "y/b.7z"])
    def test_archives_inside(self, inner):
        with pytest.raises(BadRequest, match="inside the archive"):
            read(zipped({inner: zipped(FILES)}))


def zip_of_kind(kind):
    info = zipfile.ZipInfo("y/a.png")
    info.external_attr = (kind | 0o777) << 16
    return zipped({info: "/etc/passwd"})


class TestKinds:
    @pytest.mark.parametrize(
        "data",
        [
            *(tarred(member("y/a.png", type=kind, linkname="/etc/passwd")) for kind in LINKS),
            *map(zip_of_kind, (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK)),
        ],
    )
    def test_links_and_devices(self, data):
        with pytest.raises(BadRequest, match="link or a device"):
            read(data)

    def test_encrypted(self):
        data = bytearray(zipped({"y/a.png": b"x"}, zipfile.ZIP_STORED))
        data[6] |= 1  # the flag, of the member and in the directory
        data[data.index(b"PK\x01\x02") + 8] |= 1
        with pytest.raises(BadRequest, match="encrypted"):
            read(bytes(data))

    @pytest.mark.parametrize(
        "data",
        [
            *(b"", b"x", b"text" * 1000, b"\x89PNG\r\n\x1a\n", b"Rar!\x1a"),
            *(tar_of(FILES, form=form) for form in ("bz2", "xz")),
        ],
    )
    def test_other_files(self, data):
        with pytest.raises(UnsupportedMedia):
            read(data)


class TestBounds:
    def refused(self, data, limit, **limits):
        with pytest.raises(ImageTooLarge) as caught:
            read(data, **limits)
        assert caught.value.members["limit"] == limit

    def test_files(self):
        names = [f"y/{k}.png" for k in range(1001)]
        tar = b"".join(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT) for name in names)
        for data in (zipped(dict.fromkeys(names, b""), zipfile.ZIP_STORED), tar):
            self.refused(data, "max_files", max_files=1000)

    @pytest.mark.parametrize("count", [900, 300_000])  # in one piece; too long to be read at all
    def test_a_long_list(self, count):
        one = zipped({"y/a.png": b""})
        start = one.index(b"PK\x01\x02")
        end = one.index(b"PK\x05\x06")
        listed = one[start:end] * count
        data = one[:start] + listed + one[end : end + 12] + struct.pack("<II", len(listed), start)
        tracemalloc.start()
        self.refused(data + bytes(2), "max_files", max_files=800)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - len(data) < 2_000_000  # parsed, they take 300 MB

    @pytest.mark.parametrize(
        ("data", "limit", "enough", "less"),
        [(zipped({"y/a.png": bytes(2000)}), "max_file_bytes", 2000, 1999),
         (tar_of({"y/a.png": bytes(2000)}), "max_file_bytes", 2000, 1999),
         (tar_of({f"y/{k}.png": bytes(1000) for k in range(10)}, form="gz"), "max_total_bytes",
          100_000, 9999)],
    )  # fmt: skip
    def test_bytes(self, data, limit, enough, less):
        assert read(data, **{limit: enough})
        self.refused(data, limit, **{limit: less})

    @pytest.mark.parametrize("folder", ["y", "__MACOSX"])
    def test_ratio(self, folder):
        """A small archive that becomes huge is refused once its free share is used up."""
        files = {f"{folder}/{k}": bytes(1_000_000) for k in range(8)}
        self.refused(tar_of(files, form="gz"), "max_ratio", free_bytes=5_000_000)
        if folder == "y":
            self.refused(zipped(files), "max_ratio", free_bytes=5_000_000)
        else:
            assert read(tar_of(files), free_bytes=5_000_000) == []

    def test_lying_header(self):
        data = bytearray(zipped({"y/a.png": bytes(10_000_000)}))
        directory = data.index(b"PK\x01\x02")
        data[directory + 24 : directory + 28] = struct.pack("<I", 100)
        with pytest.raises(BadRequest):
            read(bytes(data), max_file_bytes=1000)

    def test_huge_headers(self):
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
        data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
        with pytest.raises(BadRequest, match="header"):
            read(data)

    def test_sparse_files(self):
        info = tarfile.TarInfo("y/a.png")
        info.type = tarfile.GNUTYPE_SPARSE
        data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        data[483:495] = b"77777777777\0"  # its real size
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        with pytest.raises(TrustscaleError):
            read(bytes(data) + bytes(1024))


@pytest.mark.parametrize("data", [zipped(FILES), tar_of(FILES), tar_of(FILES, form="gz")])
def test_cut_anywhere(data):
    """What is cut off is refused, in one sentence, or else only whole files are passed on."""
    whole = read(data)
    for end in range(0, len(data), 7):
        found, told = [], "."
        try:
            found = read(data[:end])
        except TrustscaleError as error:
            told = error.detail
        assert found == whole[: len(found)]
        assert told.endswith(".")
        assert "\n" not in told
