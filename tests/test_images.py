"""Images as rows of pixels in [0, 1], and back."""

import json

import numpy as np
import pytest

from spread_jax.data.images import Images


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype(np.uint8)


def test_uint8_images_come_back_to_the_bit():
    """Truth: all 256 greys themselves."""
    greys = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    images = Images.of(greys)
    assert images == Images((8, 16), 255)
    z = images.apply(greys)
    assert (z.shape, z.dtype, z.min(), z.max()) == ((2, 128), np.float32, 0, 1)
    back = images.inverse(z)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, greys)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_images_come_back(pixels, dtype):
    """Truth: the images, in float32."""
    x = (pixels / 255).astype(dtype)
    images = Images.of(x)
    assert images.shape == (3, 4)
    np.testing.assert_array_equal(images.inverse(images.apply(x)), x.astype(np.float32))


def test_rows_are_images_line_by_line(pixels):
    row = Images.of(pixels).apply(pixels)[1]
    np.testing.assert_allclose(row[4 * 2 + 3], pixels[1, 2, 3] / 255, rtol=1e-6)


def test_a_black_image_alone_is_as_good_as_any(pixels):
    black = np.zeros((1, 3, 4), np.uint8)
    np.testing.assert_array_equal(Images.of(pixels).apply(black), np.zeros((1, 12)))


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_come_back_to_the_bit(channels):
    """Truth: all images themselves; a row has the channels of a place side by side."""
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 4, channels)).astype(np.uint8)
    images = Images.of(x)
    assert images.shape == (3, 4, channels)
    z = images.apply(x)
    np.testing.assert_allclose(z[1, :channels], x[1, 0, 0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(images.inverse(z), x)
    assert Images.from_json(json.loads(json.dumps(images.to_json()))) == images
    assert f"3 x 4 x {channels} pixels" in images.assumptions()[0]


def test_a_model_of_before_there_were_colours_is_read():
    assert Images.from_json({"height": 3, "width": 4, "white": 16}) == Images((3, 4), 16)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((5, 3, 8, 8), r"moveaxis\(x, 1, -1\)"),
        (
            (5, 8, 8, 4),
            r"or \[n, height, width, 3\], .* not of shape \(5, 8, 8, 4\): .*x\[..., :3\]",
        ),
        ((5, 2, 8, 8, 3), "not of shape"),
        ((5,), "labels"),
    ],
)
def test_other_axes_are_refused_with_what_to_do(shape, said):
    with pytest.raises(ValueError, match=said):
        Images.of(np.zeros(shape, np.uint8))


def test_pixels_beyond_black_and_white_are_cut():
    z = np.array([[-0.5, 1.5, 0.4999 / 255, 0.5001 / 255]])
    np.testing.assert_array_equal(Images((2, 2), 255).inverse(z)[0], [[0, 255], [0, 1]])
    np.testing.assert_array_equal(Images((1, 4)).inverse(z)[0, 0, :2], [0, 1])


def test_the_form_is_json_and_comes_back():
    images = Images.of(np.zeros((1, 3, 4), np.uint8))
    assert Images.from_json(json.loads(json.dumps(images.to_json()))) == images
    assert images.assumptions() == ["the rows are images of 3 x 4 pixels, and white is 255"]
    assert "white is 1" in Images((3, 4)).assumptions()[0]


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((5, 4, 3), np.uint8), "shape"),
        (np.zeros((5, 12)), "shape"),
        (np.zeros((3, 4)), "shape"),
        (np.zeros(()), "shape"),
        (np.full((2, 3, 4), 1.5), r"pixels in \[0, 1\]"),
        (np.full((2, 3, 4), -0.1), r"pixels in \[0, 1\]"),
        (np.full((2, 3, 4), np.nan), "finite"),
        (np.ones((2, 3, 4), int), "white is not known"),
        (np.full((2, 3, 4), "a"), "white is not known"),
    ],
)
def test_what_are_no_such_images_is_refused(x, said):
    with pytest.raises(ValueError, match=said):
        Images((3, 4)).apply(x)


@pytest.mark.parametrize("shape", [(2, 11), (12,), (2, 3, 4)])
def test_rows_of_another_width_are_no_images(shape):
    with pytest.raises(ValueError, match="must be"):
        Images((3, 4)).inverse(np.zeros(shape))
