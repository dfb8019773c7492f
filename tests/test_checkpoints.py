import json
from pathlib import Path

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


def test_a_setting_that_is_new_is_named(tmp_path):
    Checkpoints(tmp_path / "c", {"steps": 5}, resume=False).close()
    with pytest.raises(CheckpointError, match=r"settings: new was None, is 1$"):
        Checkpoints(tmp_path / "c", {"steps": 5, "new": 1}, resume=True)


def test_a_save_that_would_be_skipped_is_an_error(tmp_path):
    """Truth: orbax saves no step below its newest, and says so by its result alone."""
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(2, TREE)
    with pytest.raises(CheckpointError, match="checkpoint 1 was skipped"):
        store.save(1, TREE)
    store.close()


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_an_identity_that_is_not_ours_is_named(content, tmp_path):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"sweep\.json"):
        Checkpoints(tmp_path, {"steps": 5}, resume=True)


@pytest.mark.parametrize(
    "like",
    [
        {"other": np.zeros(3)},
        {"a": TREE["a"], "c": TREE["b"]},
        {"a": TREE["a"].T, "b": TREE["b"]},
        {"a": TREE["a"].astype(np.int32), "b": TREE["b"]},
    ],
)
def test_a_checkpoint_of_other_arrays_cannot_be_read(like, tmp_path):
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE)
    store.close()
    again = Checkpoints(tmp_path / "c", {}, resume=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        again.restore(1, like)


def test_any_damaged_file_is_told_once_or_does_no_harm(tmp_path, capfd):
    big = {f"{i}": np.arange(5000) + i for i in range(20)}
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, big)
    store.close()
    told = 0
    for path in filter(Path.is_file, (tmp_path / "c" / "1").rglob("*")):
        content = path.read_bytes()
        half = len(content) // 2
        one_bit = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        for damaged in (content[:-5], b"", b"garbage", one_bit):
            path.write_bytes(damaged)
            again = Checkpoints(tmp_path / "c", {}, resume=True)
            try:
                back = again.restore(1, big)
            except CheckpointError:
                told += 1
            else:
                assert all(np.array_equal(back[name], big[name]) for name in big)
            again.close()
        path.write_bytes(content)
    assert told >= 4  # each damage to the file of the numbers
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="file"):
        Checkpoints(tmp_path / "file" / "c", {}, resume=False)
    assert json.dumps((tmp_path / "file").read_text()) == '"precious"'
