"""Whether an image file ends where it should; OpenCV decodes half a file to half a picture, and grey below."""

from pathlib import Path

_SOI, _EOI, _SOS = b'\xff\xd8', b'\xff\xd9', 0xDA
_PNG = b'\x89PNG\r\n\x1a\n'
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def is_cut_short(path: str | Path) -> bool:
    """Whether a JPEG or PNG file lacks its end; other formats are left to the decoder.

    A JPEG's compressed data escape the byte that begins a marker, so the end marker is looked for behind the first
    scan of the picture itself: a thumbnail's lies before it, and what phones append lies behind the end.
    """
    data = Path(path).read_bytes()
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
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return True
