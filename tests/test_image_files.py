"""Image files of a folder are the arrays that were saved in them."""

import sys

import jax
import numpy as np
import pytest

import spread_jax as sj
from spread_jax.data import image_files
from spread_jax.data.datasets import read_data
from spread_jax.data.files import DataFileError
from spread_jax.data.image_files import ImageFiles, image_paths

Image = pytest.importorskip("PIL.Image", reason="Pillow, of the figures extra, is not installed")


@pytest.fixture
def colours():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 4, 3)).astype(np.uint8)


def save(folder, images, mode=None, names="{:02}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).convert(mode).save(folder / names.format(i))


def not_told(said):
    raise AssertionError(f"nothing was to be said, not {said!r}")


def test_a_folder_is_read_to_the_bit(colours, tmp_path):
    """Truth: the arrays; .png loses nothing."""
    save(tmp_path, colours)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    np.testing.assert_array_equal(read_data(tmp_path, not_told), colours)


def test_grey_images_have_no_channels(colours, tmp_path):
    grey = colours[..., 0]
    save(tmp_path, grey)
    np.testing.assert_array_equal(read_data(tmp_path, [].append), grey)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "1", "LA"])
def test_one_colour_among_grey_ones_makes_all_colours(mode, colours, tmp_path):
    """Truth: two levels, which all these modes hold; those of an image of each mode."""
    two = np.where(colours[..., :1] < 128, 0, 255).repeat(3, axis=3).astype(np.uint8)
    save(tmp_path, two[:6], mode)
    save(tmp_path, two[6:], names="x{:02}.png")
    said = []
    np.testing.assert_array_equal(read_data(tmp_path, said.append), two)
    assert len(said) == (mode in ("RGBA", "LA"))


def test_jpeg_is_what_pillow_reads(colours, tmp_path):
    """Truth: Pillow, also of the inks of a printer."""
    for folder, mode in (("a", "RGB"), ("b", "CMYK")):
        save(tmp_path / folder, colours, mode, names="{:02}.JPG")
        paths = sorted((tmp_path / folder).iterdir())
        there = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        np.testing.assert_array_equal(read_data(tmp_path / folder, not_told), there)


def test_a_photo_stands_as_it_was_held(colours, tmp_path):
    """Truth: NumPy's quarter turn, for EXIF's orientation 6: the top was at the right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, x in enumerate(colours):
        Image.fromarray(x).save(tmp_path / f"{i:02}.png", exif=exif)
    np.testing.assert_array_equal(read_data(tmp_path, not_told), np.rot90(colours, -1, (1, 2)))


def test_frames_and_transparency_that_are_left_out_are_told(colours, tmp_path):
    frames = [Image.fromarray(x) for x in colours[:3]]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[1].convert("RGBA").save(tmp_path / "b.png")
    frames[2].quantize(8).save(tmp_path / "c.png", transparency=bytes(range(8)))
    said = []
    assert read_data(tmp_path, said.append).shape == (3, 3, 4, 3)
    assert said == [
        "1 images have several frames: the first is taken",
        "2 images may be transparent: that is left out",
    ]


def test_folders_below_are_labels(colours, tmp_path):
    """Truth: the places of the names in the alphabet; the rows are those with that label."""
    for place, name in enumerate(("cat", "dog", "eel")):
        save(tmp_path / name, colours[4 * place : 4 * place + 4].repeat(3, axis=0))
    data = sj.load_dataset(tmp_path, not_told)
    assert data.shape == (3, 4, 3)
    for part, x in zip(("train", "validation", "test"), data[1:4], strict=True):
        labels = getattr(data, f"{part}_labels")
        for row, label in zip(x, labels, strict=True):
            of_label = colours[4 * label : 4 * label + 4].reshape(4, -1) / 255
            assert np.abs(row - of_label).max(axis=1).min() < 1e-6
    assert {*data.train_labels} == {0, 1, 2}


@pytest.mark.parametrize("has_labels", [True, False])
@pytest.mark.parametrize(
    "parts", [("train", "test"), ("train", "val", "test"), ("train", "valid", "test")]
)
def test_parts_of_a_folder_stay_apart(parts, has_labels, colours, tmp_path):
    for i, part in enumerate(parts):
        black = np.zeros((12, 3, 4, 3), np.uint8)
        black[..., i] = 255  # red to train on, and so on
        for half, name in ((black[:6], "a"), (black[6:], "b")):
            save(
                tmp_path / part / name if has_labels else tmp_path / part,
                half,
                names=name + "{}.png",
            )
    data = read_data(tmp_path)
    assert isinstance(data, sj.Dataset)
    assert (data.train_labels is not None) == has_labels
    for place, x in enumerate((data.train, data.validation, data.test)):
        colour = place if len(parts) == 3 else (0, 0, 1)[place]
        np.testing.assert_array_equal(x.reshape(len(x), -1, 3).mean(axis=(0, 1)).argmax(), colour)
    assert len(data.test) == 12


def test_many_images_stay_on_the_disk_and_are_read_by_place(colours, tmp_path, monkeypatch):
    """Truth: the arrays."""
    save(tmp_path, colours)
    monkeypatch.setattr(image_files, "LARGE_BYTES", 100)
    said = []
    there = read_data(tmp_path, said.append)
    assert isinstance(there, ImageFiles)
    assert "stay on the disk" in said[0]
    assert len(there) == 12
    np.testing.assert_array_equal(there[-1], colours[-1])
    np.testing.assert_array_equal(there.__getitems__([3, 0, 3]), colours[[3, 0, 3]])
    fitted = sj.fit(jax.random.key(0), there, num_steps=5, num_seeds=1, quiet=True)
    assert fitted.sample(jax.random.key(0), 2).shape == (2, 3, 4, 3)


def damaged(folder):
    path = folder / "05.png"
    path.write_bytes(path.read_bytes()[:60])


def of_text(folder):
    (folder / "05.png").write_text("<svg>")


def of_another_size(folder):
    Image.new("RGB", (5, 9)).save(folder / "05.png")


def of_16_bits(folder):
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(folder / "05.png")


def beside_arrays(folder):
    np.save(folder / "labels.npy", np.arange(12))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damaged, r"05.png: must be (readable|a whole image)"),
        (of_text, "05.png: must be readable"),
        (of_another_size, "05.png: must be of 3 x 4 pixels as most .*, not 9 x 5: resize them"),
        (of_16_bits, "05.png: must be an image of grey levels .*, not of mode I;16"),
        (beside_arrays, "not of both: it holds labels.npy too"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(change, said, colours, tmp_path):
    save(tmp_path, colours)
    change(tmp_path)
    with pytest.raises(DataFileError, match=said):
        read_data(tmp_path, [].append)


def test_a_folder_without_images_has_none(tmp_path):
    assert image_paths(tmp_path) == []
    with pytest.raises(DataFileError, match=r"or with image files; it holds nothing"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("train", "val"), "with train and test, .* it has train, val"),
        (("train", "test", "val", "valid"), "perhaps one of val, valid and validation"),
    ],
)
def test_parts_that_would_be_mixed_are_refused(folders, said, colours, tmp_path):
    for folder in folders:
        save(tmp_path / folder, colours)
    for read in (read_data, sj.load_dataset):
        with pytest.raises(DataFileError, match=said):
            read(tmp_path)


def test_a_part_without_images_is_named(colours, tmp_path):
    save(tmp_path / "Train", colours)
    (tmp_path / "Test").mkdir()
    with pytest.raises(DataFileError, match="Test: must be a folder of image files"):
        read_data(tmp_path)


def test_one_folder_is_no_label_and_one_image_no_class(colours, tmp_path):
    save(tmp_path / "all", colours)
    assert sj.load_dataset(tmp_path, not_told).train_labels is None
    save(tmp_path / "one", colours[:1])
    assert {*sj.load_dataset(tmp_path, not_told).train_labels} <= {0, 1}


def test_one_colour_image_makes_all_parts_colours(colours, tmp_path):
    save(tmp_path / "train", colours)
    save(tmp_path / "test", colours, "L")
    assert sj.load_dataset(tmp_path, not_told).test.shape == (12, 3 * 4 * 3)


def test_a_picture_beside_mnist_is_no_data(colours, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    save(tmp_path, colours)
    assert image_paths(tmp_path) == []


def test_without_pillow_its_extra_is_named(colours, tmp_path, monkeypatch):
    save(tmp_path, colours)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match=r"Pillow.*: pip install 'spread_jax\[figures\]'"):
        read_data(tmp_path)
