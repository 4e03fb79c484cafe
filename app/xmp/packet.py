"""An XMP packet, the XML that describes a photo: what it says stays, the caption is added.

The caption stands in `dc:description` (what most programs show as the description) and in
`Iptc4xmpCore:AltTextAccessibility` (IPTC's alt text), each under the language `x-default`.
(XMP specification, ISO 16684-1; IPTC Photo Metadata Standard 2021.1.)
"""

from xml.dom import minidom
from xml.dom.minidom import Document, Element, Text
from xml.parsers.expat import ExpatError

__all__ = ["XmpError", "put_caption"]

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_IPTC = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_XML = "http://www.w3.org/XML/1998/namespace"
_CAPTIONS = ((_DC, "dc:description"), (_IPTC, "Iptc4xmpCore:AltTextAccessibility"))
_MAX_BYTES = 4_000_000
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + _RDF + '">'
    '<rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


class XmpError(Exception):
    """The caption cannot be put into the photo; the text says why, for the user."""


def put_caption(packet: bytes | None, caption: str, *, overwrite: bool) -> bytes | None:
    """Put a caption into a packet, or into a new one; None where nothing is to be changed.

    overwrite: whether a description that is there is replaced; otherwise it stays.
    Raises XmpError where the packet cannot be read.
    """
    document = _parse(_EMPTY if packet is None else _decode(packet))
    try:
        descriptions = list(document.getElementsByTagNameNS(_RDF, "Description"))
        if not descriptions:
            descriptions = [_add_description(document)]
        changes = [
            _put(document, descriptions, namespace, name, caption, overwrite)
            for namespace, name in _CAPTIONS
        ]
        return _write(document) if any(changes) else None
    except RecursionError as error:
        raise XmpError(_DAMAGED) from error


_DAMAGED = "The photo's XMP metadata is damaged, so nothing is added to it."


def _decode(packet: bytes) -> str:
    if len(packet) > _MAX_BYTES:
        raise XmpError(f"The photo's XMP metadata is larger than {_MAX_BYTES} bytes.")
    is_utf16 = packet[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return packet.rstrip(b"\0").decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise XmpError(_DAMAGED) from error


def _parse(text: str) -> Document:
    """Parse a packet. One with a document type is refused: no photo has one, and it is the way to
    entities, which could fill the memory."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise XmpError(_DAMAGED)
    try:
        return minidom.parseString(text.strip().encode())
    except (ExpatError, ValueError, RecursionError) as error:
        raise XmpError(_DAMAGED) from error


def _add_description(document: Document) -> Element:
    """Make a place for properties in a packet that has none."""
    (rdf, *_) = document.getElementsByTagNameNS(_RDF, "RDF") or [None]
    if rdf is None:
        raise XmpError(_DAMAGED)
    made = document.createElementNS(_RDF, f"{_prefix(rdf)}:Description")
    made.setAttributeNS(_RDF, f"{_prefix(rdf)}:about", "")
    rdf.appendChild(made)
    return made


def _prefix(element: Element) -> str:
    if not element.prefix:
        raise XmpError(_DAMAGED)
    return str(element.prefix)


def _put(
    document: Document,
    descriptions: list[Element],
    namespace: str,
    name: str,
    caption: str,
    overwrite: bool,
) -> bool:
    """Set one property; tell whether anything has changed.

    It may stand in any of the blocks that describe the photo, as an element or as an attribute.
    """
    local_name = name.partition(":")[2]
    children = (child for block in descriptions for child in block.childNodes)
    elements = (child for child in children if isinstance(child, Element))
    found = [each for each in elements if _is_named(each, namespace, local_name)]
    attributes = [block for block in descriptions if block.hasAttributeNS(namespace, local_name)]
    texts = [_text(each) for each in found]
    texts += [block.getAttributeNS(namespace, local_name) for block in attributes]
    if any(text.strip() for text in texts) and not overwrite:
        return False
    if texts == [caption]:
        return False
    for element in found:
        if element.parentNode is not None:
            element.parentNode.removeChild(element)
    for block in attributes:
        block.removeAttributeNS(namespace, local_name)
    descriptions[0].appendChild(_property(document, descriptions[0], namespace, name, caption))
    return True


def _is_named(element: Element, namespace: str, local_name: str) -> bool:
    return element.namespaceURI == namespace and element.localName == local_name


def _text(element: Element) -> str:
    """Join the texts in an element."""
    texts = []
    for child in element.childNodes:
        if isinstance(child, Text):  # a CDATA section is one too
            texts.append(child.data)
        elif isinstance(child, Element):
            texts.append(_text(child))
    return "".join(texts).strip()


def _property(
    document: Document, block: Element, namespace: str, name: str, caption: str
) -> Element:
    """Make an alternative of languages (`rdf:Alt`) with one text."""
    rdf = _prefix(block)
    made = document.createElementNS(namespace, name)
    made.setAttributeNS(_XMLNS, f"xmlns:{name.partition(':')[0]}", namespace)
    alternatives = document.createElementNS(_RDF, f"{rdf}:Alt")
    item = document.createElementNS(_RDF, f"{rdf}:li")
    item.setAttributeNS(_XML, "xml:lang", "x-default")
    item.appendChild(document.createTextNode(caption))
    alternatives.appendChild(item)
    made.appendChild(alternatives)
    return made


def _write(document: Document) -> bytes:
    """Write a packet: without the XML declaration, which none has."""
    return b"".join(node.toxml("utf-8") for node in document.childNodes)
