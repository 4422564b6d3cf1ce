"""XMP packets: their names, and a parser that refuses what only attacks have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

if TYPE_CHECKING:
    from PIL.Image import Image

RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DESCRIPTION: Final = f"{RDF}Description"

SPACES: Final = {
    "x": "adobe:ns:meta/",
    "rdf": RDF.strip("{}"),
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "trustscale": "urn:trustscale:mark:1#",
}
"""By prefix. Some readers search a file for the usual prefixes, so they are written."""

for _prefix, _space in SPACES.items():
    ET.register_namespace(_prefix, _space)


def full(name: str) -> str:
    """Return the full name of, for example, "xmp:CreatorTool"."""
    prefix, _, local = name.partition(":")
    return f"{{{SPACES[prefix]}}}{local}"


class _NoEntities(TreeBuilder):
    """Refuses document types, which only attacks on parsers have."""

    def doctype(self, *_: object) -> None:
        """Raise ParseError."""
        raise ParseError


def packet_of(image: Image) -> bytes:
    """Return the packet of an opened image; empty if it has none."""
    packet = image.info.get("xmp", b"")
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def descriptions(packet: bytes) -> list[Element]:
    """Return the descriptions in a packet. Raises ParseError: it is no XML, or has entities."""
    parser = XMLParser(target=_NoEntities())  # noqa: S314 - entities are refused
    # Some programs append zeros; those of UTF-16 belong to the packet.
    parser.feed(packet if packet.startswith((b"\xff\xfe", b"\xfe\xff")) else packet.rstrip(b"\0"))
    root = parser.close()
    return root.findall(DESCRIPTION if root.tag == f"{RDF}RDF" else f".//{RDF}RDF/{DESCRIPTION}")


def texts_of(packet: bytes) -> dict[str, str]:
    """Return the plain texts of a packet by their full names. Raises ParseError."""
    texts: dict[str, str] = {}
    for description in descriptions(packet):
        texts |= description.attrib
        for element in description:
            resource = element.get(f"{RDF}resource")
            if not len(element) and (text := resource or element.text):
                texts[element.tag] = text
    return texts
