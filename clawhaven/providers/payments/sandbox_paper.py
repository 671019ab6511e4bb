"""An invoice as a file: one page of PDF, written by hand because it is a dozen lines of text.

Source: ISO 32000-1 (PDF 1.7), 7.5 "File structure". Letters outside Latin-1 become question marks: the standard fonts
have no others.
"""

from __future__ import annotations

from collections.abc import Sequence

_TOP, _LEFT, _LEADING = 780, 60, 20
_A4 = "[0 0 595 842]"


def write_pdf(lines: Sequence[str]) -> bytes:
    """The lines below each other on one page, the first one large."""
    shown = b"\n".join(b"(%s) Tj T*" % _escape(line) for line in lines[1:])
    title = _escape(lines[0]) if lines else b""
    begin = b"BT /F1 18 Tf %d TL %d %d Td (%s) Tj T* T* /F1 11 Tf\n" % (_LEADING, _LEFT, _TOP, title)
    text = begin + shown + b"\nET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox %s /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
        % _A4.encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + end


def _escape(line: str) -> bytes:
    plain = line.encode("cp1252", "replace")
    return plain.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)").replace(b"\n", b" ")
