"""The kinds of JPEG that cameras, scanners, printers and websites write."""

import struct

from PIL import Image, ImageChops

from tests.corpus.case import COLORS, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded, textured

EOI = b"\xff\xd9"
SEEN = Captioned(colors=COLORS)
DAMAGED = Refused("damaged-image")


def plain(**options: object) -> bytes:
    return encoded(quadrants(), "JPEG", **{"quality": 90, **options})


def cmyk() -> bytes:
    """Four inks as Adobe's programs store them: inverted, with the marker that says so."""
    return encoded(quadrants().convert("CMYK"), "JPEG", quality=95)


def ycck() -> bytes:
    """CMYK whose first three inks went through YCbCr: the Adobe marker says transform 2.

    Pillow inverts four planes and writes them without a transform. Given the inverted planes of
    YCCK, it stores what an encoder of YCCK stores, and the marker's last byte makes it one.
    """
    inverted = ImageChops.invert(quadrants()).convert("YCbCr")
    planes = [ImageChops.invert(band) for band in inverted.split()]
    black = Image.new("L", inverted.size, 0)
    data = bytearray(encoded(Image.merge("CMYK", (*planes, black)), "JPEG", quality=95))
    marker = data.index(b"Adobe")
    data[marker + 11] = 2
    return bytes(data)


def of_12_bits() -> bytes:
    """An extended sequential JPEG whose header announces 12 bits a sample."""
    data = bytearray(plain())
    frame = data.index(b"\xff\xc0")
    data[frame + 1] = 0xC1
    data[frame + 4] = 12
    return bytes(data)


def of_process(marker: int) -> bytes:
    """A JPEG whose header announces another coding process."""
    data = bytearray(plain())
    data[data.index(b"\xff\xc0") + 1] = marker
    return bytes(data)


def flat_arithmetic() -> bytes:
    """An arithmetic-coded JPEG, 16 x 16, all of one gray.

    Four blocks: no difference of DC (decision 0, the likelier one), then end of block (decision 1,
    the less likely at first). See `arithmetic_code` for the coder.
    """
    quantization = b"\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\x10" * 64
    frame = b"\xff\xc9" + struct.pack(">HBHHB", 11, 8, 16, 16, 1) + b"\x01\x11\0"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\0" + b"\0\x3f\0"
    return b"\xff\xd8" + quantization + frame + scan + arithmetic_code(4) + EOI


# Table D.3 of ITU-T T.81, as far as a few decisions reach: Qe, and the states after the less and
# the more likely symbol; the first state also changes which symbol is the likelier.
_STATES = {
    0: (0x5A1D, 1, 1, True),
    1: (0x2586, 14, 2, False),
    2: (0x1114, 16, 3, False),
    3: (0x080B, 18, 4, False),
    4: (0x03D8, 20, 5, False),
    5: (0x01DA, 23, 6, False),
    14: (0x5A7F, 15, 15, True),
    15: (0x3F25, 36, 16, False),
    16: (0x2CF2, 38, 17, False),
}


def arithmetic_code(blocks: int) -> bytes:
    """Code that many blocks without any coefficient, after section D.1 of ITU-T T.81."""
    state = {"dc": (0, 0), "end": (0, 0)}
    interval, code, bits = 0x10000, 0, 0  # the code is kept whole: it is short

    for name, decision in [("dc", 0), ("end", 1)] * blocks:
        index, likelier = state[name]
        size, after_less, after_more, switches = _STATES[index]
        interval -= size
        is_less = decision != likelier
        if is_less:
            if interval >= size:
                code += interval
                interval = size
            likelier = 1 - likelier if switches else likelier
            state[name] = (after_less, likelier)
        else:
            if interval >= 0x8000:
                continue
            if interval < size:
                code += interval
                interval = size
            state[name] = (after_more, likelier)
        while interval < 0x8000:
            interval <<= 1
            code <<= 1
            bits += 1
    return ((code << 48) >> bits).to_bytes(8, "big").replace(b"\xff", b"\xff\0")


def with_segment(marker: int, body: bytes, times: int = 1) -> bytes:
    """The picture with a segment behind its start mark."""
    data = plain()
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
    return data[:2] + segment * times + data[2:]


def multi_picture() -> bytes:
    return encoded(quadrants(), "MPO", save_all=True, append_images=[textured()], quality=90)


KINDS = Group(
    "JPEG: baseline, progressive, gray, 4:4:4, with restart marks, with fill bytes before marks",
    "captioned",
    (
        Case("JPEG baseline", plain, SEEN),
        Case("JPEG progressive", lambda: plain(progressive=True), SEEN),
        Case("JPEG 4:4:4", lambda: plain(subsampling=0), SEEN),
        Case("JPEG restart marks", lambda: plain(restart_marker_blocks=2), SEEN),
        Case("JPEG gray", lambda: encoded(quadrants().convert("L"), "JPEG"), Captioned()),
        Case("JPEG RGB without transform", lambda: plain(keep_rgb=True), SEEN),
        Case(
            "JPEG fill bytes",
            lambda: plain().replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb", 1),
            SEEN,
        ),
    ),
)
INKS = Group(
    "JPEG in CMYK or YCCK (with Adobe’s marker)",
    "converted to RGB without its color profile, and captioned",
    (
        Case("JPEG CMYK", cmyk, Captioned(colors=COLORS, tolerance=40)),
        Case("JPEG YCCK", ycck, Captioned(colors=COLORS, tolerance=40)),
    ),
)
RARE = Group(
    "JPEG of 12 bits, lossless, or hierarchical",
    "refused: save it again as usual JPEG or PNG",
    (
        Case("JPEG 12 bit", of_12_bits, DAMAGED),
        Case("JPEG lossless", lambda: of_process(0xC3), DAMAGED),
        Case("JPEG hierarchical", lambda: of_process(0xC5), DAMAGED),
    ),
)
ARITHMETIC = Group(
    "JPEG with arithmetic coding",
    "captioned",
    (
        Case(
            "JPEG arithmetic",
            flat_arithmetic,
            Captioned(size=(16, 16), colors=((128, 128, 128),) * 4, tolerance=2),
        ),
    ),
)
BEHIND = Group(
    "JPEG with more behind its end: MPO, motion photo, a second JPEG, zeros",
    "the first picture is captioned",
    (
        Case("JPEG multi-picture", multi_picture, SEEN),
        Case("JPEG motion photo", lambda: plain() + b"\0\0\0\x18ftypmp42" + bytes(5000), SEEN),
        Case("JPEG second behind", lambda: plain() + encoded(textured(), "JPEG"), SEEN),
        Case("JPEG zeros behind", lambda: plain() + bytes(100_000), SEEN),
    ),
)
METADATA = Group(
    "JPEG with comments, color profiles, thumbnails, or thousands of bytes of other metadata",
    "captioned; none of it is read, and colors are those of the file without its profile",
    (
        Case("JPEG comment", lambda: with_segment(0xFE, b"a" * 60_000), SEEN),
        Case("JPEG comment of marks", lambda: with_segment(0xFE, b"\xff\xd9\xff\xda" * 900), SEEN),
        Case("JPEG 200 comments", lambda: with_segment(0xFE, b"a" * 500, 200), SEEN),
        Case("JPEG color profile", lambda: plain(icc_profile=b"profile" * 30_000), SEEN),
        Case("JPEG XMP", lambda: plain(xmp=b"<x:xmpmeta/>" * 5_000), SEEN),
    ),
)
GROUPS = (KINDS, INKS, RARE, ARITHMETIC, BEHIND, METADATA)
