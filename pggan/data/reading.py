"""One picture: from the bytes of a file to the pixels of each resolution.

Whatever the file holds (rotated by EXIF, CMYK, gray, palette, transparent, 16-bit, animated) comes out as upright
8-bit RGB, the transparent parts white, or as `Unreadable` with a reason. Pictures are then fitted to [H, W, 3] by
Lanczos resampling, which leaves no aliasing in the reals for the discriminator to learn.
"""

import io
import warnings
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from pggan.errors import UserError

FITS = ("crop", "pad", "stretch")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")  # no EPS, which runs code
MAX_PIXELS = 2 * 89_478_485  # where Pillow stops, too: 179 million pixels, 0.5 GB as RGB
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # EXIF orientation -> the operation that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """One picture cannot be read. The message is the reason, in a few words."""


def plain(name: object) -> str:
    """`name` on one line that any terminal can print, whatever bytes the file's name was made of."""
    return " ".join(str(name).encode(errors="replace").decode().split())


@contextmanager
def decode_errors(name: str):
    """Within it everything a damaged file can raise becomes `Unreadable`, and a bomb a UserError that names it.

    Pillow's decoders raise nearly any exception on damaged files (OSError, SyntaxError, struct.error, IndexError ...),
    and warn about harmless oddities, which nobody can act on among thousands of pictures.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UserError, Unreadable):
            raise
        except Image.DecompressionBombError:
            raise bomb_error(name) from None
        except UnidentifiedImageError:
            raise Unreadable("not a picture, or of a kind that Pillow cannot read") from None
        except Exception as error:
            raise Unreadable(plain(error) or type(error).__name__) from error


def bomb_error(name: str) -> UserError:
    return UserError(f"{plain(name)} would unpack to over {MAX_PIXELS // 10**6} million pixels: remove or shrink it")


def decode(file, name: str = "picture", shrink: int = 1) -> Image.Image:
    """The picture in `file` (a path or a binary file), upright, in mode RGB; of an animation, the first frame.

    shrink: 1, 2, 4 or 8: a JPEG is decoded at that fraction of its size, which costs far less; others ignore it.
    Raises Unreadable with the reason, and UserError naming a decompression bomb.
    """
    with decode_errors(name), _open(file, name) as image:
        image.draft(None, (image.width // shrink, image.height // shrink))
        image.load()  # raises when the file is cut short
        turn = UPRIGHT.get(_orientation(image))
        return _to_rgb(image if turn is None else image.transpose(turn))


def pyramid(data: bytes, name: str, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
    """The picture fitted to each (width, height): a list of (uint8 [height, width, 3], was it enlarged).

    Every level comes from the decoded picture itself, never from another level: it is the same whichever others are
    asked for. Raises as `decode` does.
    """
    with decode_errors(name), _open(io.BytesIO(data), name) as header:
        shrinks = [_shrink(header, width, height) for width, height in sizes]
    decoded = {shrink: decode(io.BytesIO(data), name, shrink) for shrink in set(shrinks)}
    return [
        (fit(decoded[shrink], width, height, how), is_enlarged(decoded[shrink].size, width, height, how))
        for shrink, (width, height) in zip(shrinks, sizes, strict=True)
    ]


def fit(image: Image.Image, width: int, height: int, how: str = "crop") -> np.ndarray:
    """uint8 [height, width, 3] of an RGB picture.

    how: `crop` cuts the sides or the top and bottom evenly, `pad` adds white bars, `stretch` squashes.
    """
    if how == "crop":
        image = image.crop(center_box(image.size, width, height))
    inner = _inside(image.size, width, height) if how == "pad" else (width, height)
    image = image.resize(inner, Image.Resampling.LANCZOS)
    if how == "pad":
        canvas = Image.new("RGB", (width, height), "white")
        canvas.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        image = canvas
    return np.asarray(image)


def center_box(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest centered part of `size` with the aspect width : height."""
    scale = min(size[0] / width, size[1] / height)
    across = min(size[0], max(1, round(scale * width)))
    down = min(size[1], max(1, round(scale * height)))
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    return left, top, left + across, top + down


def is_enlarged(size: tuple[int, int], width: int, height: int, how: str) -> bool:
    """Whether fitting a picture of `size` to width x height had to invent pixels."""
    if how == "pad":
        return size[0] < width and size[1] < height
    return size[0] < width or size[1] < height


def _open(file, name: str) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise bomb_error(name)
    return image


def _shrink(header: Image.Image, width: int, height: int) -> int:
    """How much of the reduction the JPEG decoder may do: what leaves Lanczos twice the pixels it needs, and 512."""
    if header.format != "JPEG":
        return 1
    needed = max(512, 2 * max(width, height))
    return max(shrink for shrink in (1, 2, 4, 8) if shrink == 1 or min(header.size) >= shrink * needed)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the tag or all of the EXIF block is damaged: the pixels are still good."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or floating point as 8 bits: by its own maximum where the format names no white.

    Mode I;16 is white at 65535. I and F hold values of any range: the smallest usual one that holds them is taken.
    """
    gray = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    top = gray.max()
    usual = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    white = next((limit for limit in usual if top <= limit), top)
    return Image.fromarray(np.round(np.clip(gray / white, 0, 1) * 255).astype(np.uint8))


def _inside(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest size of the aspect of `size` that fits into width x height."""
    scale = min(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
