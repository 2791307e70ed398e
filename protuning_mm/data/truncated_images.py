"""Detection of truncated image files, which OpenCV decodes to the upper part of the picture with grey below."""

from pathlib import Path

_SOI, _EOI, _SOS = b'\xff\xd8', b'\xff\xd9', 0xDA
_PNG = b'\x89PNG\r\n\x1a\n'
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers without a length field


def is_truncated(path: str | Path) -> bool:
    """Check whether a JPEG or PNG file lacks its end; see :func:`lacks_its_end`.

    Args:
        path (str | Path): The image file.
    """
    return lacks_its_end(Path(path).read_bytes())


def lacks_its_end(data: bytes) -> bool:
    """Check whether the content of a JPEG or PNG file lacks its end; other formats are left to the decoder.

    In a JPEG's compressed data, the byte that begins a marker is escaped. The end marker is therefore searched after
    the first scan of the picture itself: the end marker of a thumbnail comes before it, and data that phones append
    come after the end.

    Args:
        data (bytes): The content.
    """
    if data.startswith(_PNG):
        return b'IEND' not in data[-4096:]
    if not data.startswith(_SOI):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SOS:
            return data.find(_EOI, at) < 0
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return True
