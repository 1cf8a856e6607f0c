"""Every kind of image file becomes upright 8-bit RGB, or an error with the reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pggan.data import reading
from pggan.errors import UserError

WHITE, RED = (255, 255, 255), (255, 0, 0)
ORIENTATION = 0x0112  # the EXIF tag
STORED = {  # EXIF orientation -> how an upright image is stored with it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quadrants(width=48, height=32) -> Image.Image:
    """Four colors, so that no two orientations look alike."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 250, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 250)
    pixels[height // 2 :, width // 2 :] = (240, 240, 20)
    return Image.fromarray(pixels)


def noise(width, height, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes, **options) -> np.ndarray:
    image = reading.decode(io.BytesIO(data), "it", **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def close(a, b, tolerance=6) -> bool:
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).mean() < tolerance


# ---- orientation


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation, kind):
    image = quadrants()
    stored = image.transpose(STORED[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = decoded(encoded(stored, kind, exif=exif))
    assert pixels.shape == (32, 48, 3)
    assert close(pixels, image)


def test_orientation_6_puts_the_stored_left_edge_on_top():
    stored = np.zeros((10, 20, 3), np.uint8)
    stored[:, :5] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pixels = decoded(encoded(Image.fromarray(stored), "PNG", exif=exif))
    assert pixels.shape == (20, 10, 3)
    assert (pixels[:5] == 255).all() and (pixels[5:] == 0).all()


def test_damaged_exif_does_not_cost_the_image():
    data = encoded(quadrants(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffrubbish")
    assert close(decoded(data), quadrants())


# ---- modes


@pytest.mark.parametrize("mode", ["1", "L"])
def test_gray_images_have_three_equal_channels(mode):
    pixels = decoded(encoded(quadrants().convert(mode), "PNG"))
    assert (pixels == pixels[:, :, :1]).all()
    assert close(pixels[:, :, 0], quadrants().convert(mode).convert("L"), 1)


def test_palette_images_show_their_colors():
    assert close(decoded(encoded(quadrants().convert("P", palette=Image.Palette.ADAPTIVE), "PNG")), quadrants(), 2)


def test_palette_transparency_becomes_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, 0, 0, 255])
    image.paste(1, (0, 0, 4, 8))
    for kind in ("PNG", "GIF"):
        pixels = decoded(encoded(image, kind, transparency=1))
        assert (pixels[:, :4] == WHITE).all() and (pixels[:, 4:] == RED).all()
    pixels = decoded(encoded(image, "PNG", transparency=bytes([255, 128])))  # an alpha for each color
    assert close(pixels[0, 0], (127, 127, 255), 2) and (pixels[0, 7] == RED).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_onto_white(kind):
    image = Image.new("RGBA", (16, 16), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    image.paste((*RED, 128), (8, 8, 16, 16))
    pixels = decoded(encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert (pixels[:, :8] == WHITE).all() and (pixels[:8, 8:] == RED).all()
    assert close(pixels[8:, 8:], (255, 127, 127), 2)


def test_gray_with_alpha_and_color_keys_are_laid_onto_white():
    gray = Image.new("LA", (8, 8), (40, 0))
    assert (decoded(encoded(gray, "PNG")) == 255).all()
    key = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (decoded(encoded(key, "PNG", transparency=(1, 2, 3))) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_keeps_its_brightness(kind):
    ramp = np.linspace(0, 65535, 64 * 8).reshape(8, 64).astype(np.uint16)
    pixels = decoded(encoded(Image.fromarray(ramp), kind))
    assert np.abs(pixels[:, :, 0] - ramp / 257).max() <= 0.5


def test_16_bit_color_keeps_its_brightness():
    values = np.linspace(0, 65535, 16 * 4 * 3).reshape(4, 16, 3).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 16, 4, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(decoded(data) - values.astype(int) / 257).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floating_point_keeps_its_brightness(white):
    ramp = np.linspace(0, white, 64, dtype=np.float32).reshape(4, 16)
    assert np.abs(decoded(encoded(Image.fromarray(ramp), "TIFF"))[:, :, 0] - ramp / white * 255).max() <= 0.51


@pytest.mark.parametrize("white", [255, 65535, 10**9])
def test_32_bit_integers_keep_their_brightness(white):
    ramp = np.linspace(0, white, 64).reshape(4, 16).astype(np.int32)
    assert np.abs(decoded(encoded(Image.fromarray(ramp), "TIFF"))[:, :, 0] - ramp / white * 255).max() <= 0.51


def test_floats_that_are_no_numbers_are_black():
    values = np.array([[np.nan, np.inf, 1.0, 0.0]], np.float32)
    assert decoded(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 0, 255, 0]
    assert (decoded(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")) == 0).all()


def test_cmyk_jpeg_shows_its_colors():
    assert close(decoded(encoded(quadrants().convert("CMYK"), "JPEG", quality=95)), quadrants())


def test_lab_tiff_shows_its_colors():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    assert close(decoded(encoded(ImageCms.applyTransform(quadrants(), to_lab), "TIFF")), quadrants(), 8)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), "blue")
    assert close(decoded(encoded(first, kind, save_all=True, append_images=[second])), np.full((8, 8, 3), RED))


# ---- unreadable files


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_unreadable(kind, part):
    data = encoded(noise(64, 64), kind)
    with pytest.raises(reading.Unreadable) as caught:
        decoded(data[: int(len(data) * part)])
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"just some text\n", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_image_is_unreadable(data):
    with pytest.raises(reading.Unreadable):
        decoded(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_random_damage_raises_unreadable_or_nothing(kind):
    rng = np.random.default_rng(0)
    whole = encoded(noise(24, 24), kind)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        try:
            decoded(bytes(data))
        except (reading.Unreadable, UserError) as error:
            assert str(error) and "\n" not in str(error)


def test_a_decompression_bomb_is_refused_by_name():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 0) + b"IDAT" + bytes(4)
    with pytest.raises(UserError, match=r"huge\.png would unpack"):
        reading.decode(io.BytesIO(bomb), "huge.png")


def test_a_bomb_is_refused_even_where_pillows_own_limit_is_off(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(reading, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match="would unpack"):
        decoded(encoded(noise(20, 20), "PNG"))


def test_a_large_image_below_the_limit_is_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoded(encoded(noise(20, 20), "PNG")).shape == (20, 20, 3)


def test_names_are_printed_on_one_line_whatever_they_hold():
    assert reading.plain("a\nb\udcff.jpg") == "a b?.jpg"
    assert (
        reading.plain("\x1b[31mred\x1b]0;title\x07 \x9b2J\u202egnp.exe é 画") == "?[31mred?]0;title? ?2J?gnp.exe é 画"
    )


# ---- metadata


def with_chunk(png: bytes, name: bytes, content: bytes, crc: int | None = None) -> bytes:
    """A PNG file with one more chunk after its header."""
    chunk = struct.pack(">I", len(content)) + name + content
    chunk += struct.pack(">I", zlib.crc32(name + content) if crc is None else crc)
    after_header = 8 + 25
    return png[:after_header] + chunk + png[after_header:]


LARGE = zlib.compress(bytes(3 * 2**20))
METADATA = {
    "a color profile above 1 MB": (b"iCCP", b"profile\0\0" + LARGE, None),
    "a compressed text above 1 MB": (b"zTXt", b"Comment\0\0" + LARGE, None),
    "an international text above 1 MB": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE, None),
    "a text with a wrong checksum": (b"tEXt", b"Comment\0hello", 12345),
    "a gamma with a wrong checksum": (b"gAMA", struct.pack(">I", 45455), 12345),
    "a date with a wrong checksum": (b"tIME", bytes(7), 12345),
    "EXIF with a wrong checksum": (b"eXIf", b"MM\0*", 12345),
    "a damaged color profile": (b"iCCP", b"profile\0\0no zlib stream", None),
}


@pytest.mark.parametrize("how", METADATA)
def test_metadata_that_pillow_refuses_costs_no_picture(how):
    plain = encoded(noise(24, 20), "PNG")
    assert np.array_equal(decoded(with_chunk(plain, *METADATA[how])), decoded(plain))


def test_a_wrong_checksum_of_the_pixels_still_does():
    png = bytearray(encoded(noise(24, 20), "PNG"))
    png[png.index(b"IDAT") + 40] ^= 255
    with pytest.raises(reading.Unreadable):
        decoded(bytes(png))


def test_transparency_and_orientation_of_a_png_are_kept():
    image = Image.new("RGBA", (8, 4), (255, 0, 0, 0))
    assert (decoded(encoded(image, "PNG")) == 255).all()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decoded(encoded(noise(8, 4), "PNG", exif=exif)).shape == (8, 4, 3)


def test_heic_is_read_with_pillow_heif_and_named_without(monkeypatch):
    data = encoded(noise(64, 64).resize((128, 128)), "HEIF")
    assert decoded(data).shape == (128, 128, 3)
    monkeypatch.setattr(reading, "pillow_heif", None)
    monkeypatch.setattr(reading, "FORMATS", tuple(name for name in reading.FORMATS if name != "HEIF"))
    with pytest.raises(reading.Unreadable, match=r"^HEIC: pip install pillow-heif$"):
        reading.decode(io.BytesIO(data), "IMG_0001.HEIC")


# ---- fitting


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (64, 64), (301, 417)])
def test_crop_is_pillows_lanczos_on_the_centerd_square(size):
    image = noise(*size)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    expected = image.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(reading.fit(image, 32, 32), np.asarray(expected))


def test_crop_keeps_the_aspect_asked_for():
    assert reading.center_box((100, 100), 4, 5) == (10, 0, 90, 100)
    assert reading.center_box((200, 100), 4, 5) == (60, 0, 140, 100)
    assert reading.fit(noise(200, 100), 64, 80).shape == (80, 64, 3)


def test_circles_stay_circles_in_crop_and_pad():
    y, x = np.mgrid[:100, :200]
    disc = ((x - 100) ** 2 + (y - 50) ** 2 < 40**2) * np.uint8(255)
    image = Image.fromarray(255 - disc).convert("RGB")
    for how in ("crop", "pad"):
        dark = reading.fit(image, 64, 64, how)[:, :, 0] < 128
        assert abs(np.ptp(np.flatnonzero(dark.any(0))) - np.ptp(np.flatnonzero(dark.any(1)))) <= 1
    dark = reading.fit(image, 64, 64, "stretch")[:, :, 0] < 128
    assert np.ptp(np.flatnonzero(dark.any(1))) > 1.8 * np.ptp(np.flatnonzero(dark.any(0)))


def test_pad_shows_the_whole_image_on_white():
    pixels = reading.fit(Image.new("RGB", (100, 50), RED), 40, 40, "pad")
    assert (pixels[:10] == WHITE).all() and (pixels[30:] == WHITE).all() and (pixels[10:30] == RED).all()


def test_pixel_wide_images_are_fitted_too():
    for how in reading.FITS:
        assert reading.fit(noise(1, 500), 32, 32, how).shape == (32, 32, 3)


def test_fine_stripes_leave_no_aliasing():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(reading.fit(Image.fromarray(stripes), 32, 32)[:, 2:-2].astype(int)) <= 2


def test_enlarged_images_are_told():
    def enlarged(width, height, how, size=(64, 64)):
        return reading.is_enlarged((width, height), *size, how)

    assert enlarged(63, 100, "crop") and not enlarged(64, 64, "crop")
    assert enlarged(63, 100, "stretch")
    assert not enlarged(63, 100, "pad") and enlarged(63, 63, "pad")


# ---- all resolutions at once


def test_resolutions_are_the_same_whichever_others_are_asked_for():
    for size in [(300, 200), (1030, 1100)]:
        data = encoded(noise(*size), "JPEG")
        sizes = [(32, 32), (64, 64), (256, 256), (512, 512)]
        together = reading.pyramid(data, "it", sizes, "crop")
        for one, (pixels, enlarged) in zip(sizes, together, strict=True):
            [(alone, same)] = reading.pyramid(data, "it", [one], "crop")
            assert np.array_equal(pixels, alone) and enlarged == same


def test_large_jpegs_are_decoded_small_and_look_the_same():
    y, x = np.mgrid[:1040, :1040]
    smooth = np.stack([x / 1040 * 255, y / 1040 * 255, 127 + 120 * np.sin(x / 40)], axis=-1).astype(np.uint8)
    data = encoded(Image.fromarray(smooth), "JPEG", quality=95)
    assert reading.decode(io.BytesIO(data), shrink=2).size == (520, 520)
    [(pixels, enlarged)] = reading.pyramid(data, "it", [(128, 128)], "crop")
    assert not enlarged
    assert np.abs(pixels.astype(int) - reading.fit(reading.decode(io.BytesIO(data)), 128, 128)).max() <= 2


def test_decode_reads_paths_too(tmp_path):
    noise(9, 7).save(tmp_path / "it.png")
    assert reading.decode(tmp_path / "it.png").size == (9, 7)
