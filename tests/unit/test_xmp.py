"""A caption in a photo's metadata: there for other programs to read, all else as it was."""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from PIL import Image

from app.xmp.embedding import XmpEmbedding, caption_bytes
from app.xmp.packet import XmpError, put_caption
from tests.unit.image_files import FILES, encoded, png_chunk, textured

CAPTION = 'a "cat" & a <dog> – zwölf'
XAP = b"http://ns.adobe.com/xap/1.0/\0"
WRITTEN = [name for name in FILES if name.startswith(("JPEG", "PNG", "WebP"))]
OTHERS = [name for name in FILES if not name.startswith(("JPEG", "PNG", "WebP"))]
SEEN = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="somebody's">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4">
   <my:Own xmlns:my="http://example.org/own/"><rdf:Bag>
    <rdf:li>kept &amp; whole</rdf:li></rdf:Bag></my:Own>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
   \n<?xpacket end="w"?>"""
DESCRIBED = SEEN.replace(
    "<my:Own ",
    '<dc:description xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Alt>'
    '<rdf:li xml:lang="x-default">by a person</rdf:li></rdf:Alt></dc:description><my:Own ',
)


def texts(data: bytes) -> tuple[str, str]:
    """Description and alt text, as another program reads them."""
    with Image.open(io.BytesIO(data)) as image:
        description = image.getxmp()["xmpmeta"]["RDF"]["Description"]
    return tuple(
        description[name]["Alt"]["li"]["text"] for name in ("description", "AltTextAccessibility")
    )


def with_caption(data: bytes, caption: str = CAPTION, **options: bool) -> bytes:
    changed = caption_bytes(data, caption, **options)
    assert changed is not None
    return changed


def without_xmp(data: bytes) -> bytes:
    """The file without its XMP, by a way of its own; a WebP's pixels and frames alone."""
    if data[:2] == b"\xff\xd8":
        start = data.index(XAP) - 4
        return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    if data[:4] == b"\x89PNG":
        start = data.index(b"iTXtXML:com.adobe.xmp\0") - 4
        return data[:start] + data[start + 12 + int.from_bytes(data[start : start + 4], "big") :]
    return re.sub(rb"^RIFF.{4}WEBP(VP8X.{14})?", b"", data[: data.index(b"XMP ")], flags=re.S)


def without_index(data: bytes) -> bytes:
    """A JPEG of several pictures without the index of them, whose numbers change."""
    found = data.find(b"MPF\0")
    return data if found < 0 else data[:found] + data[found + 200 :]


@pytest.mark.parametrize("name", WRITTEN)
def test_caption_is_read_by_others_and_every_other_byte_stays(name: str) -> None:
    data = FILES[name]
    changed = with_caption(data)
    assert texts(changed) == (CAPTION, CAPTION)
    before = re.sub(rb"^RIFF.{4}WEBP(VP8X.{14})?", b"", data, flags=re.S)
    assert without_index(without_xmp(changed)) == without_index(before)
    with Image.open(io.BytesIO(data)) as old, Image.open(io.BytesIO(changed)) as new:
        frames = getattr(old, "n_frames", 1)
        assert getattr(new, "n_frames", 1) == frames
        for frame in range(frames):
            old.seek(frame)
            new.seek(frame)
            assert new.convert("RGBA").tobytes() == old.convert("RGBA").tobytes()


@pytest.mark.parametrize("name", WRITTEN)
def test_caption_that_is_there_changes_nothing_and_another_one_replaces_it(name: str) -> None:
    once = with_caption(FILES[name])
    assert caption_bytes(once, CAPTION) is None
    assert caption_bytes(once, "another one") is None
    again = with_caption(once, "another one, which is longer than the first by far", overwrite=True)
    assert texts(again)[0].startswith("another one")
    assert with_caption(again, CAPTION, overwrite=True) == once


@pytest.mark.parametrize("name", OTHERS)
def test_caption_for_another_format_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(XmpError, match=r"into JPEG, PNG and WebP files only"):
        caption_bytes(FILES[name], CAPTION)


def test_properties_that_are_there_stay() -> None:
    packet = put_caption(SEEN.encode(), CAPTION, overwrite=False)
    assert packet is not None
    data = encoded(textured(), "JPEG", xmp=packet)
    assert texts(data) == (CAPTION, CAPTION)
    text = packet.decode()
    for kept in ('xmp:Rating="4"', "kept &amp; whole", "x:xmptk=", "W5M0MpCehiHzreSzNTczkc9d"):
        assert kept in text
    assert text.startswith("<?xpacket begin=")
    assert text.endswith('<?xpacket end="w"?>')


def test_description_of_a_person_stays_unless_it_is_to_be_replaced() -> None:
    data = encoded(textured(), "JPEG", xmp=DESCRIBED.encode())
    assert texts(with_caption(data)) == ("by a person", CAPTION)
    assert texts(with_caption(data, overwrite=True)) == (CAPTION, CAPTION)


def test_new_packet_follows_jfif_and_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    changed = with_caption(encoded(textured(), "JPEG", exif=exif))
    assert changed.index(b"JFIF\0") < changed.index(b"Exif\0") < changed.index(XAP)
    with Image.open(io.BytesIO(changed)) as image:
        assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("place", ["before", "behind"])
def test_index_of_several_pictures_still_finds_them(place: str) -> None:
    data = FILES["JPEG multi-picture"]
    if place == "behind":  # an old packet behind the index, which then grows
        index = data.index(b"MPF\0") - 4
        stop = index + 2 + int.from_bytes(data[index + 2 : index + 4], "big")
        packet = put_caption(None, "x", overwrite=False)
        assert packet is not None
        segment = b"\xff\xe1" + struct.pack(">H", 2 + len(XAP) + len(packet)) + XAP + packet
        offset_at = data.index(b"MPF\0", 0) + 4
        order = "<" if data[offset_at : offset_at + 2] == b"II" else ">"
        data = data[:stop] + segment + data[stop:]
        data = moved_by_hand(data, offset_at, order, len(segment))
    changed = with_caption(data, CAPTION * 20, overwrite=True)
    assert (changed.index(XAP) < changed.index(b"MPF\0")) == (place == "before")
    with Image.open(io.BytesIO(data)) as old, Image.open(io.BytesIO(changed)) as new:
        assert new.format == "MPO"
        old.seek(1)
        new.seek(1)
        assert new.tobytes() == old.tobytes()
        first: dict[int, Any] = new.mpinfo[0xB002][0]  # type: ignore[attr-defined]
        assert first["Size"] == changed.index(b"\xff\xd9\xff\xd8") + 2  # type: ignore[index]


def moved_by_hand(data: bytes, base: int, order: str, growth: int) -> bytes:
    """The index that fits after `growth` bytes came behind it: of Pillow's two entries."""
    changed = bytearray(data)
    first = base + struct.unpack_from(f"{order}I", data, base + 4)[0]
    for field in range(struct.unpack_from(f"{order}H", data, first)[0]):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", data, first + 2 + 12 * field)
        if tag == 0xB002:
            for at in (base + value + 4, base + value + 16 + 8):
                number = struct.unpack_from(f"{order}I", data, at)[0]
                struct.pack_into(f"{order}I", changed, at, number + growth)
    return bytes(changed)


def test_compressed_packet_of_a_png_is_read() -> None:
    text = zlib.compress(DESCRIBED.encode())
    chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text)
    data = FILES["PNG"]
    described = data[:33] + chunk + data[33:]
    assert texts(with_caption(described)) == ("by a person", CAPTION)


def test_transparency_of_a_simple_webp_stays() -> None:
    half = textured().convert("RGBA")
    half.putalpha(128)
    data = encoded(half, "WEBP", lossless=True)
    assert data[12:16] == b"VP8L"
    with Image.open(io.BytesIO(with_caption(data))) as image:
        assert image.mode == "RGBA"
        assert image.getpixel((3, 3))[3] == 128  # type: ignore[index]


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"\xff\x00\xfe",
        b"<a/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 20_000 + b"</a>" * 20_000,
        SEEN.replace("</rdf:RDF>", "").encode(),
    ],
)
def test_packet_that_cannot_be_read_is_refused(packet: bytes) -> None:
    with pytest.raises(XmpError, match="damaged"):
        put_caption(packet, CAPTION, overwrite=True)


def test_packets_that_are_too_large_are_refused() -> None:
    padded = SEEN.replace("kept &amp; whole", "k" * 65_000)
    with pytest.raises(XmpError, match="a JPEG holds"):
        caption_bytes(encoded(textured(), "JPEG", xmp=padded.encode()), CAPTION)
    with pytest.raises(XmpError, match="larger than"):
        put_caption(b" " * 4_000_001, CAPTION, overwrite=False)
    bomb = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(9_000_000)))
    with pytest.raises(XmpError, match="larger than"):
        caption_bytes(FILES["PNG"][:33] + bomb + FILES["PNG"][33:], CAPTION)


@hypothesis.given(st.data())
def test_damaged_files_are_changed_or_refused_and_nothing_else(data: st.DataObject) -> None:
    file = bytearray(with_caption(FILES[data.draw(st.sampled_from(WRITTEN))]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(file) - 1, 1500)))
        file[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(file)))
    for damaged in (bytes(file), bytes(file[:cut])):
        try:
            changed = caption_bytes(damaged, "another", overwrite=True)
        except XmpError:
            continue
        assert changed is None or len(changed) > 50


# -- in a file ----


def test_embedding_keeps_rights_and_times_and_leaves_nothing_beside(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(FILES["JPEG"])
    photo.chmod(0o640)
    before = photo.stat()
    assert XmpEmbedding(keep_times=True).embed(photo, FILES["JPEG"], CAPTION) == "written"
    after = photo.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert texts(photo.read_bytes()) == (CAPTION, CAPTION)
    assert XmpEmbedding().embed(photo, photo.read_bytes(), "another") == "kept"
    assert list(tmp_path.iterdir()) == [photo]


def test_embedding_writes_through_a_link(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(FILES["PNG"])
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    assert XmpEmbedding().embed(link, FILES["PNG"], CAPTION) == "written"
    assert link.is_symlink()
    assert texts(photo.read_bytes()) == (CAPTION, CAPTION)


def test_embedding_leaves_a_file_that_has_changed_since(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(FILES["PNG palette"])
    assert "was changed" in XmpEmbedding().embed(photo, FILES["PNG"], CAPTION)
    assert photo.read_bytes() == FILES["PNG palette"]
    assert list(tmp_path.iterdir()) == [photo]


def test_embedding_into_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    said = XmpEmbedding().embed(tmp_path / "gone.png", FILES["PNG"], CAPTION)
    assert said == "The file cannot be written: No such file or directory."


def test_embedding_takes_what_a_killed_run_left(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(FILES["PNG"])
    embedding = XmpEmbedding()
    seen: list[str] = []
    rename = Path.rename

    def note(path: Path, target: Path) -> Path:
        seen.append(path.name)
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", note)
        embedding.embed(photo, FILES["PNG"], CAPTION)
    photo.write_bytes(FILES["PNG"])
    (tmp_path / seen[0]).write_bytes(b"half")
    assert embedding.embed(photo, FILES["PNG"], CAPTION) == "written"
    assert list(tmp_path.iterdir()) == [photo]
