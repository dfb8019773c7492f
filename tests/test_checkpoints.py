"""The files that keep runs: what is there comes back, what is not is told."""

import numpy as np
import pytest

from spread_jax.sweeps import CheckpointError, Checkpoints
from spread_jax.sweeps.identity import Identity, names_of_runs

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.arange(2), None)}
ONE_RUN = {"a": TREE["a"][0], "b": (TREE["b"][0][0], None)}
TWO = ["one", "two"]


def identity(digest="0", num_steps=100, record_every=10, **told):
    told = {"number of steps": num_steps, "record_every": record_every, **told}
    return Identity(digest, num_steps, record_every, told)


def filled(folder, records=3, tree=TREE, names=TWO, **of_training):
    """A folder that has these runs."""
    store = Checkpoints(folder)
    store.save(identity(**of_training), names, records, tree)
    store.wait()
    return store


def test_runs_come_back_bit_for_bit_in_any_order(tmp_path):
    filled(tmp_path, records=1)
    filled(tmp_path, records=3, tree={**TREE, "a": TREE["a"] * 3})  # takes the place of the first
    filled(tmp_path, tree={"a": TREE["a"][:1] * 7, "b": (TREE["b"][0][1:], None)}, names=["three"])
    again = Checkpoints(tmp_path)
    stored = again.find(identity(), ["three", "four", "two"])
    assert stored.records.tolist() == [3, 0, 3]
    assert stored.unused == ""
    back = again.load(stored, np.array([2, 0]), ONE_RUN)
    np.testing.assert_array_equal(back["a"], [TREE["a"][1] * 3, TREE["a"][0] * 7])
    np.testing.assert_array_equal(back["b"][0], [1, 1])
    assert isinstance(back["b"], tuple)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_is_merged_by_copying_its_files(tmp_path):
    filled(tmp_path / "here", names=["one", "two"])
    filled(tmp_path / "there", names=["three", "four"])
    for path in (tmp_path / "there").iterdir():
        path.rename(tmp_path / "here" / path.name)
    stored = Checkpoints(tmp_path / "here").find(identity(), ["one", "four", "two", "three"])
    assert stored.records.tolist() == [3] * 4


def test_of_two_files_the_run_that_is_further_counts(tmp_path):
    filled(tmp_path, records=5, names=["one", "two"])
    filled(tmp_path, records=3, names=["two", "three"])
    filled(tmp_path, records=7, names=["three", "four"])
    stored = Checkpoints(tmp_path).find(identity(), ["one", "two", "three", "four"])
    assert stored.records.tolist() == [5, 5, 7, 7]


def test_what_tells_runs_apart_is_their_seed_and_every_bit_of_their_numbers():
    hyper = {"a": np.float32([1.0, 1.0, np.nextafter(np.float32(1), np.float32(2)), 1.0])}
    first, second, third, fourth = names_of_runs(np.uint32([0, 0, 0, 1]), hyper)
    assert first == second
    assert len({first, third, fourth}) == 3


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"batch": 1}, {"digest": "1", "batch": 2}, "batch was 1, is 2"),
        ({}, {"digest": "1", "new": 1}, "new was None, is 1"),
        ({}, {"digest": "1"}, "what a step does differs: networks, loss"),
        ({}, {"digest": "1", "num_steps": 200}, "100, is 200; what a step does depends on it"),
        ({"record_every": 1}, {"digest": "1", "record_every": 2}, "they go on with 1"),
        ({}, {"num_steps": 110}, "was 100, is 110; the last tenth of the steps"),
        ({}, {"num_steps": 20}, "was 100, is 20; the last tenth of the steps"),
    ],
)
def test_what_cannot_be_reused_is_named_and_left(before, after, words, tmp_path):
    filled(tmp_path, records=10, **before)
    stored = Checkpoints(tmp_path).find(identity(**after), TWO)
    assert stored.records.tolist() == [0, 0]
    assert "has 2 of these runs as another training left them; they stay there" in stored.unused
    assert words in stored.unused
    assert "remove" not in stored.unused
    assert Checkpoints(tmp_path).find(identity(**before), TWO).records.tolist() == [10, 10]
    assert Checkpoints(tmp_path).find(identity(**after), ["other"]).unused == ""


def test_settings_name_what_differs(tmp_path):
    store = Checkpoints(tmp_path, {"hidden": (64, 64), "size": None})
    store.save(identity(), TWO, 3, TREE)
    other = Checkpoints(tmp_path, {"hidden": (8,), "size": None})
    store.wait()
    assert "hidden was [64, 64], is [8]" in other.find(identity("1"), TWO).unused
    assert other.find(identity(), TWO).records.tolist() == [3, 3]  # nothing depends on them


def test_the_nearest_of_several_ways_is_told(tmp_path):
    filled(tmp_path, digest="1", batch=1, width=8)
    filled(tmp_path, digest="2", batch=1, width=16)
    unused = Checkpoints(tmp_path).find(identity(batch=2, width=16), TWO).unused
    assert "has 4 of these runs" in unused
    assert unused.endswith("beside them: batch was 1, is 2 (and 1 other ways)")


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
        "a bit of its digest": lambda content, header: flipped(content, 1),
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
    store = filled(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage[1](content, content.index(b"\n")))
    with pytest.raises(CheckpointError, match=f"{path}: cannot be read, it is damaged"):
        store.load(store.find(identity(), TWO), np.arange(2), ONE_RUN)


def test_a_file_that_is_damaged_stops_none_that_does_not_need_it(tmp_path):
    filled(tmp_path, names=["one", "two"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    store = filled(tmp_path, names=["three", "four"])
    stored = store.find(identity(), ["three", "four"])
    np.testing.assert_array_equal(store.load(stored, np.arange(2), ONE_RUN)["a"], TREE["a"])


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    def full_disk(descriptor):
        raise OSError("No space left on device")

    store = filled(tmp_path)
    monkeypatch.setattr("os.fsync", full_disk)
    # the next save, or the end
    for told in (lambda: store.save(identity(), TWO, 5, TREE), store.wait):
        store.save(identity(), TWO, 4, TREE)
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left"):
            told()
    stored = store.find(identity(), TWO)
    assert stored.records.tolist() == [3, 3]
    np.testing.assert_array_equal(store.load(stored, np.arange(2), ONE_RUN)["a"], TREE["a"])


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path):
    filled(tmp_path)
    (path,) = tmp_path.iterdir()
    path.rename(path.with_suffix(".part"))
    assert Checkpoints(tmp_path).find(identity(), TWO).records.tolist() == [0, 0]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match="file"):
        Checkpoints(tmp_path / "file" / "c")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CheckpointError, match="it is no sweep's checkpoint folder"):
        Checkpoints(tmp_path)
