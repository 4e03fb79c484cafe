"""Reads an image that came as text: base64, or a data URI. Knows no HTTP and opens no image.

What programs write is read: the alphabet of RFC 4648 and the one for URLs, line breaks between,
the padding or none. Whatever else stands there is told with its place.
"""

import binascii
import re

from app.core.errors import MalformedBase64Error

__all__ = ["base64_length", "decode_image_text"]

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BETWEEN = b" \t\r\n"
_STRANGE = re.compile(r"[^A-Za-z0-9+/=_\s-]|[^\x00-\x7f]")
_NO_PADDING = re.compile(r"[^\s=]")
_LONGEST_HEAD = 200
_ADVICE = "Send the bytes of the picture in base64, or as data:image/jpeg;base64,…"


def base64_length(size_bytes: int) -> int:
    """Say how many letters so many bytes are, with their padding."""
    return 4 * ((size_bytes + 2) // 3)


def decode_image_text(text: str, member: str) -> bytes:
    """Decode base64, or a data URI; what the URI says of its type is not believed.

    member: how the text is named to whoever sent it.
    Raises MalformedBase64Error, which says where.
    """
    begin = _skip_head(text, member)
    try:
        letters = text[begin:].encode("ascii")
    except UnicodeEncodeError as error:
        raise _malformed(text, begin, member) from error
    letters = letters.translate(_TO_STANDARD, _BETWEEN)
    whole = letters.rstrip(b"=")
    if len(letters) - len(whole) > 2 or len(whole) % 4 == 1:
        raise _malformed(text, begin, member)
    try:
        return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _malformed(text, begin, member) from error


def _skip_head(text: str, member: str) -> int:
    """Say where the base64 of a text begins: at 0, or behind the head of a data URI."""
    if text[:5].lower() != "data:":
        if re.match(r"https?://", text, re.IGNORECASE):
            raise MalformedBase64Error(
                f"{member} is an address, not a picture. Send the picture's bytes in base64, or "
                "its address as the member 'url'."
            )
        return 0
    comma = text.find(",", 0, _LONGEST_HEAD)
    if comma < 0:
        raise MalformedBase64Error(f"{member} is a data URI without a comma. {_ADVICE}")
    if not text[:comma].rstrip().lower().endswith(";base64"):
        raise MalformedBase64Error(
            f"{member} is a data URI that is not in base64: ';base64' is missing before its comma. "
            f"{_ADVICE}"
        )
    return comma + 1


def _malformed(text: str, begin: int, member: str) -> MalformedBase64Error:
    """Find out what is wrong, and where, counted in letters from 1.

    The text is read once: whoever sent it may have sent all of it to be read again and again.
    """
    strange = _STRANGE.search(text, begin)
    first_padding = text.find("=", begin)
    early = first_padding >= 0 and _NO_PADDING.search(text, first_padding)
    if strange:
        what = f"letter {strange.start() + 1} is {strange[0]!a}"
    elif early:
        what = f"it goes on behind its end, the '=' at letter {first_padding + 1}"
    elif text.rstrip().endswith("==="):
        what = "it ends with more than two '='"
    else:
        what = f"it ends in the middle of a byte, after {len(text)} letters"
    return MalformedBase64Error(f"{member} is no base64: {what}. {_ADVICE}")
