import json

import numpy as np
import pytest

from spread_jax.checkpoints import CheckpointError, Checkpoints

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.arange(3), None)}


def test_the_newest_checkpoint_comes_back_bit_for_bit(tmp_path):
    store = Checkpoints(tmp_path / "c", {"steps": 5}, resume=False)
    assert store.latest() is None
    for number in (1, 2, 3):
        store.save(number, {**TREE, "a": TREE["a"] * number})
    store.close()
    again = Checkpoints(tmp_path / "c", {"steps": 5}, resume=True)
    assert again.latest() == 3
    back = again.restore(3, TREE)
    np.testing.assert_array_equal(back["a"], TREE["a"] * 3)
    np.testing.assert_array_equal(back["b"][0], TREE["b"][0])
    assert isinstance(back["b"], tuple)
    again.discard()
    assert not (tmp_path / "c").exists()


def test_without_resume_earlier_checkpoints_are_forgotten(tmp_path):
    store = Checkpoints(tmp_path / "c", {"steps": 5}, resume=False)
    store.save(1, TREE)
    store.close()
    assert Checkpoints(tmp_path / "c", {"steps": 6}, resume=False).latest() is None


def test_settings_are_compared_as_json(tmp_path):
    settings = {"hidden": (64, 64), "size": None}
    Checkpoints(tmp_path / "c", settings, resume=False).close()
    Checkpoints(tmp_path / "c", settings, resume=True).close()
    with pytest.raises(CheckpointError, match=r"hidden was \[64, 64\], is \[8\]$"):
        Checkpoints(tmp_path / "c", {**settings, "hidden": (8,)}, resume=True)


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_an_identity_that_is_not_ours_is_named(content, tmp_path):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"sweep\.json"):
        Checkpoints(tmp_path, {"steps": 5}, resume=True)


def test_a_checkpoint_of_other_shapes_cannot_be_read(tmp_path):
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE)
    store.close()
    again = Checkpoints(tmp_path / "c", {}, resume=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        again.restore(1, {"other": np.zeros(3)})


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="file"):
        Checkpoints(tmp_path / "file" / "c", {}, resume=False)
    assert json.dumps((tmp_path / "file").read_text()) == '"precious"'
