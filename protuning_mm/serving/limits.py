"""The limits of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Args:
        max_bytes (int): Size of a request's body. Defaults to 32 MiB.
        max_upload_bytes (int): Size of the body of an upload. Defaults to 1 GiB.
        max_pixels (int): Pixels of all images of a request together, counted before an image is decoded. Defaults to
            50 million.
        max_images (int): Images in a request. Defaults to 16.
        max_queue (int): Requests that wait while another one runs. Defaults to 32.
        timeout (float): Seconds that a request may wait and run, and seconds in which its body must arrive. Each part
            of an upload must arrive in this time. Defaults to 60.
    """

    max_bytes: int = 32 * 2**20
    max_upload_bytes: int = 2**30
    max_pixels: int = 50_000_000
    max_images: int = 16
    max_queue: int = 32
    timeout: float = 60.0
