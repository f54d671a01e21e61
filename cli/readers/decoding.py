"""Which text do these bytes hold?

UTF-8 first, then a byte-order mark, then statistics (charset-normalizer). Nothing is decoded with replacement
characters behind the user's back: bytes that no encoding explains are an ``UnreadableFile``.
"""

from __future__ import annotations

import codecs

from cli.readers.reader import SourceFile, UnreadableFile

SNIFF_BYTES = 8192  # git looks at the first 8,000 bytes for a NUL
SAMPLE_BYTES = 1 << 18
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: SourceFile) -> str:
    """The text of a whole file, with Unix line ends.

    Raises:
        UnreadableFile: no encoding fits the bytes.
    """
    return decode_text(file.path.read_bytes())


def decode_text(data: bytes) -> str:
    """Decodes bytes of unknown encoding; line ends become Unix ones."""
    encoding = detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"looks like {encoding}, but is not from byte {error.start} on") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def detect_encoding(data: bytes) -> str:
    """Names the encoding of ``data``: a codec that Python knows.

    Raises:
        UnreadableFile: no encoding fits the bytes.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    wide = unmarked_utf16(data[:SNIFF_BYTES])
    if wide:
        return wide
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return guess_encoding(_around(data, error.start))
    return "utf-8"


def guess_encoding(sample: bytes) -> str:
    """The most plausible encoding of bytes that are not UTF-8.

    Western European text is as plausible in a dozen code pages, and charset-normalizer then names the first by
    alphabet; the web's rule (WHATWG Encoding Standard: windows-1252 is the fallback) decides such ties.
    """
    from charset_normalizer import from_bytes

    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        raise UnreadableFile("its text encoding could not be determined (convert it to UTF-8)")
    for match in matches:
        if (match.chaos, match.coherence) != (best.chaos, best.coherence):
            continue
        if "cp1252" in match.could_be_from_charset:
            return "cp1252"
    return best.encoding


def is_binary(head: bytes) -> bool:
    """Whether the beginning of a file (``SNIFF_BYTES``) is not text: it holds a NUL and is not UTF-16 or UTF-32."""
    if any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return False
    return b"\0" in head and unmarked_utf16(head) is None


def unmarked_utf16(head: bytes) -> str | None:
    """Returns "utf-16-le" or "utf-16-be" when nearly every second byte is NUL and no other one is; None otherwise."""
    even, odd = head[0::2], head[1::2]
    if len(head) < 4 or b"\0" not in head:
        return None
    if b"\0" not in even and odd.count(0) > 0.7 * len(odd):
        return "utf-16-le"
    if b"\0" not in odd and even.count(0) > 0.7 * len(even):
        return "utf-16-be"
    return None


def _around(data: bytes, position: int) -> bytes:
    """A sample from the line of ``position`` on; starting at a line keeps multi-byte characters whole."""
    start = data.rfind(b"\n", 0, max(0, position - SAMPLE_BYTES // 4)) + 1
    return data[start : start + SAMPLE_BYTES]
