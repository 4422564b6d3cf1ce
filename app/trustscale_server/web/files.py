"""The pages and their static files, read once into memory.

All static files have one path with a digest of their whole content,
`/static/DIGEST/css/base.css`, so a visit uses files of one release only, and browsers may keep
them for ever. A page names one script and one style sheet, `/static/DIGEST/pages/upscale.js` and
`.css`, which hold all that it imports (`bundle.py`), so that a first visit waits for few answers.
"""

from __future__ import annotations

import gzip
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

from trustscale_server.web.bundle import linked

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class SitePage:
    """One page: `pages/NAME.html` inside the layout, with its style sheet and script.

    sheets: style sheets that it shares with other pages.
    """

    name: str
    title: str
    paths: tuple[str, ...]
    """Where it is served; the navigation links to the first one."""
    needs_admin: bool = False
    sheets: tuple[str, ...] = ()


PAGES = (
    SitePage("upscale", "Upscale", ("/", "/wall", "/r/{result_id}")),
    SitePage(
        "calibrations", "Studio", ("/calibrations",), needs_admin=True, sheets=("jobs", "tiles")
    ),
    SitePage("annotate", "Annotate", ("/annotate",), needs_admin=True, sheets=("jobs",)),
)

MISSING = SitePage("missing", "Not found", ())
"""Shown for unknown addresses."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """The bytes of a static file or page, their type, and a tag that changes with them."""

    data: bytes
    media_type: str
    etag: str
    packed: StaticFile | None = None
    """The file compressed by gzip, for browsers that accept it."""


class Site:
    """Everything that a browser can load of the pages; prefix: the path below which it is."""

    def __init__(self, prefix: str = "", root: Traversable | None = None) -> None:
        self._prefix = prefix
        self._root = root or resources.files(__package__)

    @cached_property
    def static(self) -> Mapping[str, StaticFile]:
        """Static files by path relative to `static/`, and the script and sheet of each page."""
        files = dict(_walk(self._root / "static"))

        def read(path: str) -> str:
            return files[path].data.decode()

        for page in (*PAGES, MISSING):
            script = linked(f"js/{page.name}.js", read)
            sheets = (f"css/{name}.css" for name in ("base", *page.sheets, page.name))
            style = "\n".join(read(path) for path in sheets if path in files)
            for ending, text in (("js", script), ("css", style)):
                files[f"pages/{page.name}.{ending}"] = _file(text.encode(), _MEDIA_TYPES[ending])
        return files

    @cached_property
    def digest(self) -> str:
        """A digest of the names and bytes of all static files."""
        digest = hashlib.sha256()
        for path, file in sorted(self.static.items()):
            digest.update(f"{path}\0{file.etag}\0".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def pages(self) -> Mapping[str, StaticFile]:
        """The finished pages by name."""
        layout = Template(self._text("layout.html"))
        return {page.name: self._page(layout, page) for page in (*PAGES, MISSING)}

    @staticmethod
    def previewed(page: StaticFile, title: str, image: str | None) -> StaticFile:
        """Return a page with what other programs show of its link."""
        properties = {
            "og:title": title,
            "og:site_name": "Trustscale",
            "og:type": "website",
            "og:description": "Enlarged, with marks where the model may have made it up.",
        }
        if image is not None:
            properties |= {"og:image": image, "twitter:card": "summary_large_image"}
        tags = "".join(
            f'<meta property="{name}" content="{html.escape(value)}">\n'
            for name, value in properties.items()
        )
        data = page.data.replace(b"</head>", tags.encode() + b"</head>", 1)
        return _file(data, page.media_type)

    def _page(self, layout: Template, page: SitePage) -> StaticFile:
        base = f"{self._prefix}/static/{self.digest}"
        addresses = {"static": base, "root": self._prefix}
        text = layout.substitute(
            title=html.escape(page.title),
            name=page.name,
            **addresses,
            style=f"{base}/pages/{page.name}.css",
            script=f"{base}/pages/{page.name}.js",
            nav=self._navigation(page),
            main=Template(self._text(f"{page.name}.html")).safe_substitute(addresses),
        )
        return _file(text.encode(), "text/html; charset=utf-8")

    def _text(self, name: str) -> str:
        return (self._root / "pages" / name).read_text("utf-8")

    def _navigation(self, current: SitePage) -> str:
        """The links to all pages."""
        links = (
            f'<a href="{self._prefix}{page.paths[0]}"{_state(page, current)}>'
            f"{html.escape(page.title)}</a>"
            for page in PAGES
        )
        return "\n".join(links)


def _state(page: SitePage, current: SitePage) -> str:
    """The attributes of a link; other pages for admins are hidden until the tab has a key."""
    if page is current:
        return ' aria-current="page"'
    return " data-admin hidden" if page.needs_admin else ""


def _walk(folder: Traversable, prefix: str = "") -> list[tuple[str, StaticFile]]:
    """All files below a folder whose type is known."""
    files = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            files += _walk(entry, f"{path}/")
        elif media_type := _MEDIA_TYPES.get(entry.name.rpartition(".")[2]):
            files.append((path, _file(entry.read_bytes(), media_type)))
    return files


def _file(data: bytes, media_type: str) -> StaticFile:
    packed = None
    if media_type.startswith(("text/", "image/svg")):
        packed = StaticFile(gzip.compress(data, mtime=0), media_type, f'"{_digest(data)}-gzip"')
    return StaticFile(data, media_type, f'"{_digest(data)}"', packed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
