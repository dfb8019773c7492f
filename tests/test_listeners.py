"""Listeners of a sweep write what they say."""

import builtins
import struct

import matplotlib.image
import numpy as np
import pytest
from test_sweeps import GRID, walk

import spread_jax as sj
from spread_jax import listeners, sweeps


def records(loss, *, num_new, total=12, scale=None):
    """Of runs ``[run, record]``."""
    n, end = loss.shape
    return sweeps.Records(
        done=loss.size,
        total=total,
        num_nonfinite=int(np.isnan(loss[:, -1:]).sum()),
        runs=np.arange(n),
        labels={"seed": np.arange(n), "scale": np.ones(n) if scale is None else scale},
        steps=10 * np.arange(1, end + 1),
        curves={"loss": loss, "loss_max": loss + 1, "loss_rise": loss, "position": 2 * loss},
        num_new=num_new,
    )


LOSS = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, np.nan], [1.0, 1.0, 0.5], [2.0, 2.0, 2.0]])
SCALE = np.array([1.0, 1.0, 7.0, 7.0])


def test_runs_are_told_apart_by_the_numbers_in_which_they_differ():
    labels = {"seed": np.array([0, 1, 0, 1]), "scale": SCALE, "rate": np.full(4, 0.1)}
    cells = listeners.cells_of(labels)
    assert {cell: runs.tolist() for cell, runs in cells.items()} == {
        "scale 1": [0, 1],
        "scale 7": [2, 3],
    }
    assert list(listeners.cells_of({**labels, "scale": np.ones(4)})) == ["all runs"]
    three = listeners.cells_of({**labels, "rate": np.array([0.1, 0.2, 0.1, 0.1])})
    assert list(three) == ["scale 1, rate 0.1", "scale 1, rate 0.2", "scale 7, rate 0.1"]


def test_the_picture_is_made_again_when_its_time_has_come(tmp_path, monkeypatch):
    """Truth, by hand: median and worst of each cell, a broken run the worst in the median; the
    clock stands at 0, 9, 10, 21, 25 and 39 seconds, and drawing costs nothing."""
    clock = iter([0.0, 9.0, 10.0, 10.0, 21.0, 21.0, 25.0, 39.0, 39.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    path = tmp_path / "here" / "loss.png"
    picture = sj.LossPicture(path, seconds=10.0)
    draw, drawn = picture._draw, []
    picture._draw = lambda *what: (drawn.append(what), draw(*what))[1]
    told = [records(LOSS[:, :end], num_new=1, scale=SCALE, total=99) for end in (1, 2, 3)]
    # the first and the fourth come too early
    for each in (told[0], told[0], told[1], told[2], told[2]):
        picture(each)
    assert [len(steps) for steps, _ in drawn] == [1, 2, 3]
    steps, cells = drawn[-1]
    assert steps.tolist() == [10, 20, 30]
    assert cells["scale 1"][0].tolist() == [4.0, 3.0, np.inf]
    assert cells["scale 1"][1].tolist() == [6.0, 5.0, 2.0]
    assert cells["scale 7"][0].tolist() == [1.5, 1.5, 1.25]
    assert matplotlib.image.imread(path).ndim == 3
    assert [file.name for file in path.parent.iterdir()] == ["loss.png"]


@pytest.mark.parametrize("at_end", [True, False])
def test_a_short_sweep_has_the_picture_of_its_end_where_it_is_wanted(tmp_path, at_end):
    sj.LossPicture(tmp_path / "loss.png", at_end=at_end)(records(LOSS, num_new=1))
    assert (tmp_path / "loss.png").exists() == at_end


def test_drawing_takes_a_two_hundredth_of_the_time_at_most(tmp_path, monkeypatch):
    """By hand: a picture that took 2 seconds is followed by another after 400."""
    clock = iter([0.0, 10.0, 12.0, 411.0, 413.0, 415.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    picture, drawn = sj.LossPicture(tmp_path / "loss.png", seconds=10.0), []
    picture._draw = lambda *what: (drawn.append(1), sj.figures.loss_so_far_figure(*what))[1]
    for _ in range(3):
        picture(records(LOSS, num_new=1, total=99))
    assert len(drawn) == 2


def test_many_grid_points_are_drawn_as_one_and_long_curves_thinned(tmp_path):
    """Truth: every tenth record, the newest among them."""
    picture, drawn = sj.LossPicture(tmp_path / "loss.png"), []
    picture._draw = lambda *what: (drawn.append(what), sj.figures.loss_so_far_figure(*what))[1]
    loss = np.random.default_rng(0).normal(size=(8, 3995))
    picture(records(loss, num_new=1, scale=np.arange(8), total=loss.size))
    ((steps, cells),) = drawn
    assert steps.tolist() == list(range(50, 39951, 100))
    assert list(cells) == ["all 8 runs"]
    np.testing.assert_array_equal(cells["all 8 runs"][0], np.median(loss[:, 4::10], axis=0))


def test_a_picture_that_cannot_be_written_stops_no_sweep(tmp_path):
    (tmp_path / "file").write_text("precious")
    picture = sj.LossPicture(tmp_path / "file" / "loss.png", seconds=0.0)
    with pytest.warns(UserWarning, match=r"loss\.png cannot be written") as told:
        sweeps.sweep(walk(), GRID, num_seeds=1, on_record=picture)
    assert len([warning for warning in told if "cannot be written" in str(warning.message)]) == 1


def events(folder):
    """``{(tag, step): value}`` of the event files: of each record its length, a checksum, the bytes
    and theirs, as TensorFlow's record files are laid out."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs tensorboardX")
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = proto.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


@pytest.mark.slow
def test_tensorboard_reads_the_middle_and_the_worst_of_every_grid_point(tmp_path):
    """Truth, by hand: the medians of each cell's runs, to which a broken one counts as infinite,
    and the largest of those that have not broken."""
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    listener = sj.TensorBoardListener(tmp_path)
    listener(records(LOSS[:, :0], num_new=0, scale=SCALE))
    listener(records(LOSS[:, :2], num_new=2, scale=SCALE))
    listener(records(LOSS[:, :2], num_new=0, scale=SCALE))
    listener(records(LOSS, num_new=1, scale=SCALE))
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["scale 1", "scale 7"]
    assert events(tmp_path / "scale 1") == {
        **{("loss/median", step): value for step, value in ((10, 4), (20, 3), (30, np.inf))},
        **{("loss/worst", step): value for step, value in ((10, 6), (20, 5), (30, 2))},
        **{("position/median", step): value for step, value in ((10, 8), (20, 6), (30, np.inf))},
    }
    assert events(tmp_path / "scale 7")["loss/median", 30] == 1.25


def test_tensorboard_gets_ten_records_of_a_chunk(tmp_path):
    """Truth: evenly spaced ones, the first and the last among them."""
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    listener = sj.TensorBoardListener(tmp_path)
    loss = np.arange(400.0).reshape(4, 100)
    listener(records(loss, num_new=91, total=400))
    steps = sorted(step for tag, step in events(tmp_path / "all runs") if tag == "loss/worst")
    assert steps == list(range(100, 1001, 100))


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *others, **more):
        if name == "tensorboardX":
            raise ImportError
        return real(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'spread_jax\[tensorboard\]'"):
        sj.TensorBoardListener(tmp_path)


@pytest.mark.slow
def test_listeners_hear_all_of_a_sweep(tmp_path):
    """Truth: the sweep's own curves."""
    pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
    watched = [sj.LossPicture(tmp_path / "loss.png"), sj.TensorBoardListener(tmp_path / "events")]
    runs = sj.sweep(walk(), GRID, num_seeds=3, on_record=watched)
    assert (tmp_path / "loss.png").exists()
    found = events(tmp_path / "events" / "scale 2")
    expected = np.median(runs.dataset["loss"].sel(scale=2.0), axis=0)
    np.testing.assert_array_equal(
        [found["loss/median", step] for step in range(1, 41)], expected.astype(np.float32)
    )
