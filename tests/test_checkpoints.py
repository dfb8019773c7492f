import json
import re

import numpy as np
import pytest

from spread_jax.sweeps import CheckpointError, Checkpoints

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.arange(3), None)}


def test_the_newest_checkpoint_comes_back_bit_for_bit(tmp_path):
    store = Checkpoints(tmp_path / "c", {"steps": 5}, resume=False)
    assert store.latest() is None
    for number in (1, 2, 3):
        store.save(number, {**TREE, "a": TREE["a"] * number})
    assert store.latest() == 3  # not before all is written
    again = Checkpoints(tmp_path / "c", {"steps": 5}, resume=True)
    assert again.latest() == 3
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["checkpoint", "sweep.json"]
    back = again.restore(TREE)
    np.testing.assert_array_equal(back["a"], TREE["a"] * 3)
    np.testing.assert_array_equal(back["b"][0], TREE["b"][0])
    assert isinstance(back["b"], tuple)
    again.discard()
    assert not (tmp_path / "c").exists()


def test_without_resume_earlier_checkpoints_are_forgotten(tmp_path):
    store = Checkpoints(tmp_path / "c", {"steps": 5}, resume=False)
    store.save(1, TREE)
    store.wait()
    assert Checkpoints(tmp_path / "c", {"steps": 6}, resume=False).latest() is None


def test_settings_are_compared_as_json(tmp_path):
    settings = {"hidden": (64, 64), "size": None}
    Checkpoints(tmp_path / "c", settings, resume=False)
    Checkpoints(tmp_path / "c", settings, resume=True)
    with pytest.raises(CheckpointError, match=r"hidden was \[64, 64\], is \[8\]$"):
        Checkpoints(tmp_path / "c", {**settings, "hidden": (8,)}, resume=True)


def test_a_setting_that_is_new_is_named(tmp_path):
    Checkpoints(tmp_path / "c", {"steps": 5}, resume=False)
    with pytest.raises(CheckpointError, match=r"settings: new was None, is 1$"):
        Checkpoints(tmp_path / "c", {"steps": 5, "new": 1}, resume=True)


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
def test_a_checkpoint_of_other_arrays_names_the_first(like, tmp_path):
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE)
    store.wait()
    again = Checkpoints(tmp_path / "c", {}, resume=True)
    with pytest.raises(CheckpointError, match=r"other arrays: \['(a|b)'\](\[0\])? was .*, is ."):
        again.restore(like)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"seed": list(range(20))}, ""),
        ({"seed": list(range(22))}, "seed is now with 20, 21;"),
        ({"seed": [*range(3), *range(4, 21)]}, "seed is now without 3 and now with 20;"),
        ({"seed": [0, 1]}, "seed was 0, 1, ..., 19 (20 values), is 0, 1;"),
        ({"seed": list(range(20)), "sigma_fix": [0.1]}, "sigma_fix was not there, is 0.1;"),
    ],
)
def test_what_differs_is_named_and_the_checkpoint_is_left(now, words, tmp_path):
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE, {"seed": list(range(20))})
    store.wait()
    if words:
        with pytest.raises(CheckpointError, match=re.escape(f"other settings: {words}")) as told:
            store.latest(now)
        assert "remove" not in str(told.value)
        now = {"seed": list(range(20))}
    assert store.latest(now) == 1


def flipped(content, byte):
    return content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :]


@pytest.mark.parametrize(
    "damage",
    {
        "truncated": lambda content, header: content[:-5],
        "only the header": lambda content, header: content[:header],
        "empty": lambda content, header: b"",
        "garbage": lambda content, header: b"garbage",
        "numbers": lambda content, header: b"17",
        "longer": lambda content, header: content + content[-5:],
        "a bit of the chunks": lambda content, header: flipped(content, content.index(b"1")),
        "a bit of the header": lambda content, header: flipped(content, header // 2),
        "the header's end": lambda content, header: flipped(content, header),
        "a bit of the numbers": lambda content, header: flipped(
            content, (header + len(content)) // 2
        ),
        "a bit of the digest": lambda content, header: flipped(content, len(content) - 1),
    }.items(),
    ids=lambda named: named[0],
)
def test_any_damage_is_told(damage, tmp_path):
    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE)
    store.wait()
    path = tmp_path / "c" / "checkpoint"
    content = path.read_bytes()
    path.write_bytes(damage[1](content, content.index(b"\n")))
    again = Checkpoints(tmp_path / "c", {}, resume=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        assert again.latest() is None or again.restore(TREE)


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    def full_disk(descriptor):
        raise OSError("No space left on device")

    store = Checkpoints(tmp_path / "c", {}, resume=False)
    store.save(1, TREE)
    store.wait()
    monkeypatch.setattr("os.fsync", full_disk)
    for told in (lambda: store.save(3, TREE), store.wait):  # the next save, or the end
        store.save(2, TREE)
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left"):
            told()
    assert store.latest() == 1
    np.testing.assert_array_equal(store.restore(TREE)["a"], TREE["a"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="file"):
        Checkpoints(tmp_path / "file" / "c", {}, resume=False)
    assert json.dumps((tmp_path / "file").read_text()) == '"precious"'
