import json

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

import spread_jax as sj
from experiments import baselines, baselines_report
from spread_jax import figures
from spread_jax.comparison import describe
from spread_jax.judgement import judge_samples

SMALL = {
    "steps": 12,
    "curve_steps": 8,
    "seeds": 2,
    "seed": 3,
    "hidden": (4,),
    "batch_size": 8,
    "data_std": (0.05,),
    "data_size": (),
    "num_samples": 20,
    "save_params": True,
    "quiet": True,
}


def run_small(out, only=None, **others):
    """All comparisons, or those of ``only`` with some arms."""
    settings = baselines.Settings(**{**SMALL, "out": out, **others})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "start_jax", lambda settings: None)
        if only:
            every = baselines.comparisons(settings)
            some = [c._replace(arms=only[c.like.name]) for c in every]
            patch.setattr(baselines, "comparisons", lambda settings: some)
        baselines.run(settings)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Five cells; every arm is the slow test's."""
    out = tmp_path_factory.mktemp("baselines")
    some = {"two_modes": ("vae", "spread_vae"), "ring": ("spread_vae",), "spiral": ("spread_vae",)}
    run_small(out, some)
    return out


KEYS = {"arm", "data", "data_std", "data_size", "median_energy_distance", "median_wasserstein"}
KEYS |= {"energy_distance_truth", "wasserstein_truth", "median_off_data", "median_late_loss_std"}


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(small_run):
    names = {"metrics.json", "results.nc", "params.npz", "baselines.png", "curves.png"}
    assert {path.name for path in small_run.iterdir()} == names
    metrics = json.loads((small_run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["config"]["seeds"] == 2
    assert len(metrics["rows"]) == 5
    for row in metrics["rows"]:
        assert set(row) >= KEYS
        assert row["energy_distance_truth"] > 0
        assert ("recovered_rate" in row) == (row["data"] == "two_modes")
    ceiling = next(row for row in metrics["rows"] if row["arm"] == "deconvolution")
    assert ceiling["median_late_loss_std"] is None
    assert abs(ceiling["median_sigma_x"] - 0.05) < 0.005


@pytest.mark.slow
def test_results_hold_what_metrics_say(small_run):
    rows = json.loads((small_run / "metrics.json").read_text())["rows"]
    with xr.open_dataset(small_run / "results.nc") as dataset:
        assert [row["arm"] for row in rows] == dataset["arm"].values.astype(str).tolist()
        np.testing.assert_array_equal(dataset["seed"], [3, 4])
        medians = np.median(dataset["energy_distance"], axis=1)
        np.testing.assert_allclose([row["median_energy_distance"] for row in rows], medians)


@pytest.mark.slow
def test_every_arm_has_its_row_and_its_line_of_the_table(tmp_path, capsys):
    run_small(tmp_path, data_size=(5, 50))
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    table = capsys.readouterr().out
    of_modes = [name for name in sj.ARMS if name not in baselines.NOT_HERE]
    main = len(baselines.MAIN_ARMS)
    assert len(rows) == len(of_modes) + 1 + (main + 1) * 2 + main * 2
    fresh = [r["arm"] for r in rows if r["data"] == "two_modes" and not r["data_size"]]
    assert fresh == [*of_modes, "deconvolution"]
    assert all(baselines_report.arms()[name].label in table for name in fresh)


@pytest.mark.slow
def test_a_finite_data_set_is_all_that_a_run_sees():
    """One point of five: without noise and without learning, the loss repeats itself."""
    settings = baselines.Settings(**{**SMALL, "data_size": (5,), "learning_rate": 1e-3})
    comparison = baselines.comparisons(settings)[1]._replace(arms=("vae",))
    x = comparison.problem({"data_std": 0.05}).sample(jax.random.key(0), 5)
    (program,) = baselines.programs_of(settings, comparison)
    hyper = {**program.cells[0], "data_size": np.float32(1), "learning_rate": np.float32(0)}
    del hyper["arm"], hyper["data"]
    state, history = jax.jit(program.training.train)(jax.random.key(0), hyper)
    assert state.data.shape == x.shape
    np.testing.assert_allclose(history["loss"], history["loss"][0], rtol=1e-6)


def test_arms_that_are_not_here_are_deterministic_ones_under_a_spread():
    """Of the two modes they make two points."""
    same = {n for n, arm in sj.ARMS.items() if arm.variance == "none" and arm.has_floor}
    assert set(baselines.NOT_HERE) == same | {"dequantized"}  # points have no grey levels


def test_main_arms_have_colours_of_their_own():
    colors = [sj.ARMS[arm].color for arm in baselines.MAIN_ARMS]
    assert len(set(colors)) == len(colors)


def judged_by_hand():
    """Three arms at one width of the modes; the second has a broken run, the third nothing else."""
    lower = {"better": "lower"}
    broken = [[0.1, 0.2, 0.3], [0.2, np.nan, 0.4], [np.nan] * 3]
    dims = ("cell", "seed")
    return xr.Dataset(
        {
            "sigma_x": (dims, np.array(broken), {"better": ""}),
            "wasserstein": (dims, np.array(broken), lower),
            "energy_distance": (dims, np.array(broken), lower),
            "off_data": (dims, np.array(broken), lower),
            "position_bias": (dims, np.array(broken), {"better": ""}),
            "late_loss_std": (dims, np.array(broken), lower),
            "recovered": (dims, np.isfinite(broken)),
            "predicted": ("cell", [0.1] * 3),
            "samples": (("cell", "point", "dim"), np.full((3, 4, 2), np.nan)),
        },
        {
            "arm": ("cell", ["vae", "spread_vae", "noise_only"]),
            "data": ("cell", ["two_modes"] * 3),
            "data_std": ("cell", [0.1] * 3),
            "data_size": ("cell", [np.nan] * 3),
        },
    ).pipe(describe, [sj.ARMS[name] for name in ("vae", "spread_vae", "noise_only")])


def truth_by_hand():
    scores = {name: (("cell", "seed"), [[0.05, 0.06]]) for name in baselines_report.OF_TRUTH}
    law = {"data": ("cell", ["two_modes"]), "data_std": ("cell", [0.1])}
    return xr.Dataset(scores, law)


def test_a_broken_run_is_the_worst_in_rows_and_table(capsys):
    """By hand: of 0.2, 0.4 and a broken run the middle is 0.4; of broken runs there is none."""
    rows = baselines_report.rows(judged_by_hand(), truth_by_hand())
    assert [row["median_wasserstein"] for row in rows] == [0.2, 0.4, None]
    assert rows[1]["wasserstein_interval"] == [0.2, None]
    assert [row["recovered_rate"] for row in rows] == [1, pytest.approx(2 / 3), 0]
    assert [row["wasserstein_truth"] for row in rows] == pytest.approx([0.055] * 3)
    assert {row["data_size"] for row in rows} == {None}
    baselines_report.print_rows(baselines.Settings(seeds=3), rows)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "noise only" in line]
    cells = [cell.strip() for cell in line.split("│")[2:-1]]
    assert cells == ["- (0.1000)", "-", "-", "-", "-", "0% [0, 56]", "-"]


def baselines_figure(dataset):
    return figures.baselines_figure(dataset, sj.over_seeds(dataset), sj.over_seeds(truth_by_hand()))


def test_an_arm_without_a_middle_is_at_the_edge_of_the_figure(tmp_path):
    """By hand: the third arm's marks; the axes point upwards, so it has height 0. A σ_x without a
    number is at the largest ratio."""
    figure = baselines_figure(judged_by_hand())
    figure.savefig(tmp_path / "figure.png")
    above, below = figure.axes
    # along x a share of the panel
    (mark,) = [line.get_xydata() for line in below.lines if line.get_marker() == ">"]
    np.testing.assert_allclose(mark, [[1.0, 0.0]])
    middles = [line.get_xydata()[0] for line in above.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(middles, [[2, 2], [4, 1], [50, 0]])


def test_the_name_of_an_arm_changes_nothing():
    """Truth: the same picture, pixel by pixel."""
    names = ("cell", ["noise_only", "some", "other"])
    drawn = []
    for dataset in (judged_by_hand(), judged_by_hand().assign_coords(arm=names)):
        canvas = FigureCanvasAgg(baselines_figure(dataset))
        canvas.draw()
        drawn.append(np.asarray(canvas.buffer_rgba()))
    np.testing.assert_array_equal(*drawn)


def test_curves_say_where_an_arm_has_no_sample(tmp_path):
    dataset = judged_by_hand().assign_coords(data=("cell", ["ring"] * 3))
    truth = sj.over_seeds(truth_by_hand())
    curves = {"ring": np.zeros((5, 2))}
    figure = figures.curves_figure(curves, dataset, sj.over_seeds(dataset), truth)
    figure.savefig(tmp_path / "figure.png")
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == [
        "no finite sample"
    ] * 3
    assert figure.axes[-1].get_title().endswith("W2 inf")


def test_every_run_is_judged_beside_the_same_true_sample():
    """The paired truth: runs that differ in their numbers alone meet the same points, and true
    samples that are judged beside it are independent of it and of each other."""
    problem = sj.problems.two_modes(0.1)
    distance = sj.problems.problem_metrics(lambda hyper: problem, 40)[0]
    data = problem.dataset(jax.random.key(0), 2, 2)
    points = np.asarray(problem.evenly.sample(jax.random.key(5), 40))
    scores = [
        judge_samples(points, data, [distance], {"sigma_fix": sigma})["energy_distance"]
        for sigma in (0.1, 0.3)
    ]
    assert scores[0] == scores[1] > 0
    true = sj.problems.true_scores(problem, 40, 3)
    assert (true["energy_distance"] > 0).all()
    assert len(np.unique(true["energy_distance"])) == 3
    np.testing.assert_array_equal(true["off_data"], 0)


BAD_FLAGS = [
    ("--sigma-fix", "0"),
    ("--sigma-fix", "nan"),
    ("--curve-steps", "0"),
    ("--steps", "0"),
    ("--learning-rate", "-1"),
    ("--data-std", "0"),
    ("--data-size", "0"),
    ("--finite-data-std", "inf"),
    ("--num-samples", "7"),
    ("--num-samples", "0"),
]


@pytest.mark.parametrize(("flag", "value"), BAD_FLAGS)
def test_bad_values_name_the_flag_the_value_and_what_is_accepted(flag, value, refuses):
    refuses(baselines, flag, value)


@pytest.mark.slow
def test_floor_and_noise_are_biased_as_predicted_and_the_spread_is_not():
    """Data std 0.05, σ_fix 0.1, 16 seeds. Truths: 0, √(0.05² + 0.1²) = 0.1118, and 0.05."""
    settings = baselines.Settings(seeds=16, data_std=(0.05,), data_size=(), quiet=True)
    comparison = baselines.comparisons(settings)[0]
    names = ("variance_floor", "noise_only", "spread_vae")
    _, _, judged = next(baselines.train(settings, comparison._replace(arms=names)))
    middle = sj.over_seeds(judged).sel(statistic="middle").transpose(..., "cell")
    floor, noise, spread = middle["sigma_x"].values
    assert floor < 0.01
    assert noise == pytest.approx(np.hypot(0.05, 0.1), rel=0.03)
    assert spread == pytest.approx(0.05, rel=0.1)
    distances = middle["wasserstein"].values
    assert distances[2] < 0.5 * min(distances[:2])
    rates = dict(zip(judged["arm"].values, middle["recovered"].values, strict=True))
    assert rates["spread_vae"] > 0.8  # a width may be a learning-rate jitter off at the last step
    assert rates["variance_floor"] == rates["noise_only"] == 0
