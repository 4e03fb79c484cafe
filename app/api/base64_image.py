"""Reads an image that came as text: base64, or a data URI. Knows no HTTP and opens no image.

What programs write is read: the alphabet of RFC 4648 and the one for URLs, line breaks between,
the padding or none. Whatever else stands there is told with its place.
"""

import binascii
import re
import string

from app.core.errors import MalformedBase64Error

__all__ = ["base64_length", "decode_image_text"]

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BETWEEN = b" \t\r\n"
_ALPHABET = (string.ascii_letters + string.digits + "+/-_").encode()
_PADDING = b"="
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

    Whoever sent the text may have sent twenty million letters of it, to be read again and again: so
    it is read a few times by the fastest there is, and never anew from each letter.
    """
    letters = text.encode("ascii", "replace")[begin:]
    strange = letters.translate(None, _ALPHABET + _PADDING + _BETWEEN)
    first_padding = letters.find(_PADDING)
    behind = letters[first_padding:] if first_padding >= 0 else b""
    if strange:
        position = begin + letters.index(strange[:1])
        what = f"letter {position + 1} is {text[position]!a}"
    elif behind.translate(None, _PADDING + _BETWEEN):
        what = f"it goes on behind its end, the '=' at letter {begin + first_padding + 1}"
    elif text.rstrip().endswith("==="):
        what = "it ends with more than two '='"
    else:
        what = f"it ends in the middle of a byte, after {len(text)} letters"
    return MalformedBase64Error(f"{member} is no base64: {what}. {_ADVICE}")
