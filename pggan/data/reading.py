"""Reads one image: from the bytes of a file to the pixels of each resolution.

Any kind of file (rotated by EXIF, CMYK, gray, palette, transparent, 16-bit, animated) becomes upright 8-bit RGB on
white, or an `Unreadable` with a reason. Images are then fitted to [H, W, 3] by Lanczos resampling, which leaves no
aliasing that the discriminator could learn.
"""

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pggan.errors import UserError, plain

FITS = ("crop", "pad", "stretch")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")  # not EPS, which runs code
HEIF_ENDINGS = (".heic", ".heif")
try:
    import pillow_heif
except ImportError:  # an extra: pip install pillow-heif
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)
MAX_PIXELS = 2 * 89_478_485  # Pillow's own limit: 179 million pixels, 0.5 GB as RGB


class Unreadable(Exception):
    """An image cannot be read. The message is the reason in a few words."""


@contextmanager
def decode_errors(name: str):
    """Turns any error of a damaged file into `Unreadable`, and a decompression bomb into a UserError that names it.

    Pillow's decoders raise nearly any exception (OSError, SyntaxError, struct.error, IndexError ...). Their warnings
    are about harmless oddities and are silenced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UserError, Unreadable):
            raise
        except Image.DecompressionBombError:
            most = f"{MAX_PIXELS // 10**6} million pixels"
            raise UserError(f"{plain(name)} would unpack to over {most}: remove or shrink it") from None
        except UnidentifiedImageError:
            is_heif = pillow_heif is None and name.lower().endswith(HEIF_ENDINGS)
            reason = (
                "HEIC: pip install pillow-heif" if is_heif else "not a picture, or of a kind that Pillow cannot read"
            )
            raise Unreadable(reason) from None
        except Exception as error:
            raise Unreadable(plain(error) or type(error).__name__) from error


def decode(file, name: str = "picture", shrink: int = 1) -> Image.Image:
    """The image in `file` (a path or a binary file), upright and in mode RGB; the first frame of an animation.

    shrink: 1, 2, 4 or 8. A JPEG is decoded at this fraction of its size, which is much faster; others ignore it.
    Raises Unreadable with the reason, and UserError for a decompression bomb.
    """
    with decode_errors(name), _open(file) as image:
        image.draft(None, (image.width // shrink, image.height // shrink))
        image.load()  # raises when the file is cut short
        with suppress(Exception):  # where the EXIF block is damaged, the pixels are still good
            ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)


def pyramid(data: bytes, name: str, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
    """The image fitted to each (width, height): a list of (uint8 [height, width, 3], whether it was enlarged).

    Each size is made from the decoded image, not from another size, so it does not depend on the other sizes. Raises
    as `decode` does.
    """
    with decode_errors(name), _open(io.BytesIO(data)) as header:
        shrinks = [_shrink(header, width, height) for width, height in sizes]
    decoded = {shrink: decode(io.BytesIO(data), name, shrink) for shrink in set(shrinks)}
    return [
        (fit(decoded[shrink], width, height, how), is_enlarged(decoded[shrink].size, width, height, how))
        for shrink, (width, height) in zip(shrinks, sizes, strict=True)
    ]


def fit(image: Image.Image, width: int, height: int, how: str = "crop") -> np.ndarray:
    """An RGB image as uint8 [height, width, 3].

    how: `crop` cuts off both sides, or top and bottom, evenly; `pad` adds white bars; `stretch` changes the aspect.
    """
    if how == "crop":
        image = image.crop(center_box(image.size, width, height))
    if how != "pad":
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGB", (width, height), "white")
    resized = image.resize(inner, Image.Resampling.LANCZOS)
    canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def center_box(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest box at the center of `size` with the aspect width : height."""
    scale = min(size[0] / width, size[1] / height)
    across = min(size[0], max(1, round(scale * width)))
    down = min(size[1], max(1, round(scale * height)))
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    return left, top, left + across, top + down


def is_enlarged(size: tuple[int, int], width: int, height: int, how: str) -> bool:
    """Whether an image of `size` has too few pixels to be fitted to width x height without enlarging it."""
    smaller = (size[0] < width, size[1] < height)
    return all(smaller) if how == "pad" else any(smaller)


def _open(file) -> Image.Image:
    image = Image.open(_without_metadata(file), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


PNG = b"\x89PNG\r\n\x1a\n"
METADATA = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")


def _without_metadata(file):
    """A PNG file without its texts and color profile, and without other optional chunks whose checksum is wrong.

    Pillow refuses the whole picture over these. The pixels do not depend on them. Other files are returned as they are.
    """
    data = Path(file).read_bytes() if isinstance(file, (str, Path)) else file.read()
    if data.startswith(PNG):
        data = PNG + b"".join(chunk for chunk in _chunks(data) if not _is_metadata(chunk))
    return io.BytesIO(data)


def _chunks(png: bytes) -> Iterator[bytes]:
    """The chunks of a PNG file: length, name, content and checksum; the last one may be cut short."""
    place = len(PNG)
    while place < len(png):
        end = place + int.from_bytes(png[place : place + 4]) + 12
        yield png[place:end]
        place = end


def _is_metadata(chunk: bytes) -> bool:
    is_optional = chunk[4:5].islower()
    return chunk[4:8] in METADATA or (is_optional and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]))


def _shrink(header: Image.Image, width: int, height: int) -> int:
    """The fraction at which to decode a JPEG: at least 512 px, and twice the pixels that Lanczos needs, are left."""
    if header.format != "JPEG":
        return 1
    needed = max(512, 2 * max(width, height))
    return max(shrink for shrink in (1, 2, 4, 8) if shrink == 1 or min(header.size) >= shrink * needed)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # gray of 16 bits, 32 bits or floating point
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits, 32 bits or floating point as 8 bits.

    White is 65535 in mode I;16. Modes I and F do not define it: the smallest usual one that no value exceeds.
    """
    gray = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    largest = gray.max()
    usual = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    white = next((limit for limit in usual if largest <= limit), largest)
    return Image.fromarray(np.round(np.clip(gray / white, 0, 1) * 255).astype(np.uint8))
