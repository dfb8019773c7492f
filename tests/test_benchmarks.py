import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import spread_jax as sj
from benchmarks import (
    contestants,
    cost,
    fit,
    peers,
    quality,
    quality_report,
    scaling,
    sweep,
    timing,
)
from spread_jax.cli import command
from spread_jax.cores import num_cores
from spread_jax.sample_quality import train_classifier

MISSING = "PyTorch is not installed: pip install -e '.[bench]'"
MISSING_PEER = "{} is not installed: pip install -e '.[bench]'"


def run_benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.sweep", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def losses():
    torch = pytest.importorskip("torch", reason=MISSING)
    return sweep.losses_side_by_side(torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop", "stacked", "plain JAX"])
def test_all_contestants_train_as_the_sweep_does(losses, name):
    """Truth: another library, and a step written by hand. The first losses are of equal weights,
    data and noise; those after them have taken each one's own gradients and Adam steps."""
    assert losses[name].shape == losses["sweep"].shape == (3, 3)
    assert np.ptp(losses["sweep"]) > 0.01
    np.testing.assert_allclose(losses[name], losses["sweep"], rtol=1e-5, atol=1e-5)


def test_losses_that_differ_end_the_benchmark():
    """By hand: 2e-5 of less than a nat is too much, of ten nats it is not."""
    ours = np.array([[0.0, 10.0]])
    with pytest.raises(RuntimeError, match=r"2.0e-05"):
        timing.require_same_losses({"sweep": ours, "loop": ours + np.array([2e-5, 0.0])})
    with pytest.raises(RuntimeError, match="nan"):
        timing.require_same_losses({"sweep": ours, "loop": ours, "stacked": ours * np.nan})
    close = {"sweep": ours, "loop": ours, "stacked": ours + np.array([0.0, 2e-5])}
    assert timing.require_same_losses(close) == pytest.approx(2e-6)


@pytest.mark.slow
def test_the_sweep_that_is_timed_trains():
    """Without PyTorch too: its parameters move, and it is worth its steps."""
    compiled = contestants.CompiledSweep(contestants.toy_training(20), 3, 2, record_every=5)
    before = compiled.params()
    compiled.train()
    after = compiled.params()
    assert compiled.run_steps == 30
    assert compiled.bytes_per_run > 0
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(axis=tuple(range(1, a.ndim))), before, after
    )
    assert all((m > 0).any() for m in jax.tree.leaves(moved))


@pytest.mark.slow
def test_a_row_of_the_scaling_is_measured(monkeypatch):
    monkeypatch.setattr(scaling, "REPEATS", 1)
    said = []
    (row,) = scaling.measure_axis("dimension", (5,), True, said.append)
    assert row.point == {**contestants.BASE, "dimension": 5}
    assert (row.devices, row.group) == (2, 16)  # 16 runs are in the cache
    assert row.seconds_per_run_step > 0
    assert said[0] == "compiling: dimension 5"


@pytest.mark.slow
def test_the_fit_that_is_timed_trains():
    ours = fit.OurRun(fit.make_images(50), 2)
    ours.train()
    after = jax.device_get(ours._state.params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), ours.params, after)
    assert all(m > 0 for m in jax.tree.leaves(moved))


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(monkeypatch, capsys, tmp_path):
    torch = pytest.importorskip("torch", reason=MISSING)
    monkeypatch.setattr(sweep, "start_devices", lambda: torch.device("cpu"))  # JAX has begun
    monkeypatch.setattr(scaling, "AXES", {"width": (32, 64)})
    flags = ["--quick", "--runs", "1", "--repeats", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["sweep.py", *flags])
    command.main(sweep.Settings, sweep.run)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json", "throughput.png"}
    results = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)
    assert set(results["throughput"]) == set(results["throughput_stacked"]) == {"1", "64"}
    to_plain_jax = {f"ratio_to_plain_jax{of}" for of in ("", "_alone", "_toy")}
    for key in {"ratio_to_loop", "ratio_to_stacked", "fraction_of_limit"} | to_plain_jax:
        assert results[key] > 0
    assert {axis: len(each["rows"]) for axis, each in results["scaling"].items()} == {
        "runs": 2,
        "width": 1,
    }
    assert results["loss_difference"] <= 1e-5
    assert results["environment"]["versions"]["torch"].startswith("2.13.0")
    shown = capsys.readouterr()
    for words in ("x the loop", "x the stacked", "of the limit", "plain JAX", "kB per run"):
        assert words in shown.out
    assert "comparing the losses" in shown.err


def test_multiply_adds_of_a_step():
    """By hand: the encoder 2-64-64-1 on 128 points, the decoder 1-64-64-4 on 2."""
    encoder = (2 * 64 + 64 * 64 + 64) * 2 + (64 * 64 + 64)
    decoder = (64 + 64 * 64 + 64 * 4) * 2 + (64 * 64 + 64 * 4)
    assert contestants.multiply_adds(contestants.BASE) == 128 * encoder + 2 * decoder


def test_where_time_is_linear():
    costs = {1: 3.0, 16: 1.1, 64: 1.0, 256: 1.2, 1024: 1.4}
    rows = [scaling.Row({"runs": n}, 2, 32, 1.0, cost, 1.0) for n, cost in costs.items()]
    assert scaling.where_linear("runs", rows) == "linear from 16 to 256; 3 x at 1; 1.4 x at 1,024"


@pytest.mark.parametrize(
    ("flag", "values"), [("--runs", ["0"]), ("--runs", ["64", "-1"]), ("--repeats", ["0"])]
)
def test_bad_values_name_the_flag_the_value_and_what_is_accepted(
    flag, values, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep.py", flag, *values])
    with pytest.raises(SystemExit) as exit:
        command.main(sweep.Settings, sweep.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith(f"error: {flag} {' '.join(values)}: must be")
    assert not list(tmp_path.iterdir())


def test_without_pytorch_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    monkeypatch.setattr(timing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        command.main(sweep.Settings, sweep.run)
    assert exit.value.code == 2
    assert ".[bench]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_names_the_command():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "python -m benchmarks.sweep" in done.stdout


@pytest.mark.slow
def test_pytorch_fits_images_as_this_package_does():
    """Truth: another library, from equal weights, batches and noise; later losses have taken each
    library's own gradients and Adam steps."""
    torch = pytest.importorskip("torch", reason=MISSING)
    losses = fit.losses_side_by_side(torch.device("cpu"), names=("eager",))
    assert np.ptp(losses["this package"]) > 1
    np.testing.assert_allclose(losses["eager"], losses["this package"], rtol=1e-5)


def test_ratios_are_taken_within_a_round():
    """By hand: 4/2 and 9/3 to eager, 4/1 and 9/4 to compiled."""
    rates = {"this package": [4.0, 9.0], "eager": [2.0, 3.0], "compiled": [1.0, 4.0]}
    results = fit.summarise(rates)
    assert results["ratio_to_eager"] == 2.5
    assert results["ratio_to_compiled"] == 3.125
    assert results["ratio_to_faster"] == (2 + 2.25) / 2
    assert results["tables"]["one-model"][1:] == [
        "beside eager PyTorch | 2.50",
        "beside compiled PyTorch | 3.12",
    ]


@pytest.mark.slow
def test_the_benchmark_of_the_fit_keeps_its_contract(tmp_path):
    pytest.importorskip("torch", reason=MISSING)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fit", "--quick", "--repeats", "1", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "fit.json").read_text(), parse_constant=pytest.fail)
    assert results["ratio_to_faster"] > 0
    assert results["loss_difference"] <= 1e-5
    assert set(results["steps_per_second"]) == {"this package", "eager", "compiled"}
    assert "x the faster of the two" in done.stdout


@pytest.mark.parametrize(("with_one", "with_all"), [(1.0, 2.0), (2.0, 1.0)])
def test_the_faster_number_of_threads_is_chosen(with_one, with_all, monkeypatch):
    """Truth: the seconds that are made up here for each number."""
    torch = pytest.importorskip("torch", reason=MISSING)
    before = torch.get_num_threads()
    monkeypatch.setattr(peers, "num_cores", lambda: 2)

    def compete():
        seconds = {1: with_one, 2: with_all}.get(torch.get_num_threads(), 0.0)
        return [peers.Contestant("by hand", np.zeros((1, 1)), seconds, 0.0)]

    with threadpool_limits(num_cores()):  # which puts back what was before
        chosen = peers.choose_threads(compete)
        found = torch.get_num_threads()
        torch.set_num_threads(before)
    assert chosen == found == (1 if with_one < with_all else 2)


def test_epochs_of_a_curve_and_their_steps():
    """By hand: 1,437 rows are 11 batches of 128 and a smaller one."""
    data = sj.load_dataset("digits")
    assert quality.Settings(epochs=20, curve=True).points == [1, 2, 5, 10, 20]
    assert quality.Settings(epochs=2, curve=True).points == [1, 2]
    assert quality.Settings(epochs=20).points == [20]
    assert quality.Settings(epochs=3).num_steps(data) == 36


def test_seconds_to_a_distance_are_the_fewest_of_those_that_reach_it():
    cells = [
        {"contestant": name, "median_frechet": distance, "median_seconds": seconds}
        for name, distance, seconds in [
            ("a", 30.0, 1.0),
            ("a", 9.0, 5.0),
            ("a", 8.0, 4.0),
            ("b", 11.0, 9.0),
            ("b", None, 2.0),
        ]
    ]
    assert quality_report.seconds_to(10.0, cells) == {"a": 4.0, "b": None}


def test_the_built_in_table_has_no_density():
    """Its fourth column is the sum of the first three; the parts differ."""
    data = quality.three_clusters()
    assert [len(part) for part in data[1:4]] == [2500, 500, 1000]
    np.testing.assert_allclose(data.train[:, 3], data.train[:, :3].sum(axis=1), atol=1e-5)
    assert data.shape is None


@pytest.mark.slow
def test_the_mixture_chosen_by_bic_is_as_near_as_real_data():
    """Truth: three Gaussians, which it finds again; its samples come in no order."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    rows = (centres[rng.integers(3, size=900)] + rng.normal(size=(900, 2))).astype(np.float32)
    data = sj.Dataset("clusters", rows[:500], rows[500:600], rows[600:])
    (one,) = peers.gaussian_mixture(data, 0, quality.Settings())
    assert one.samples.shape == (300, 2)
    assert one.train_seconds > 0
    judge = quality.make_judge(data)
    assert judge.numbers(one, data)["energy_distance"] < 1.5 * judge.reference["energy_distance"]
    first = one.samples[:100]
    assert {int(i) for i in np.linalg.norm(first[:, None] - centres, axis=2).argmin(1)} == {0, 1, 2}


@pytest.mark.slow
def test_pythae_has_the_widths_of_this_package_and_draws_as_many_samples():
    pytest.importorskip("pythae", reason=MISSING_PEER.format("pythae"))
    data = sj.load_dataset("digits")
    settings = quality.Settings(epochs=1, components=2)
    for name, kinds in (("VAE", ["prior", "mixture of 2"]), ("RAE_L2", ["mixture of 2"])):
        found = peers.pythae_model(name, data, 0, settings)
        assert [one.name for one in found] == [f"pythae {name}, {kind}" for kind in kinds]
        for one in found:
            assert one.samples.shape == (240, 64)
            assert 0 <= one.samples.min() <= one.samples.max() <= 1
        again = peers.pythae_model(name, data, 0, settings)
        other = peers.pythae_model(name, data, 1, settings)
        np.testing.assert_allclose(again[0].samples, found[0].samples, atol=1e-5)
        assert np.abs(other[0].samples - found[0].samples).max() > 0.01


def test_pythae_networks_have_one_hidden_layer_of_400():
    """By hand: 64-400-20 with two heads, and 20-400-64."""
    pytest.importorskip("pythae", reason=MISSING_PEER.format("pythae"))
    from pythae.models import VAE, VAEConfig

    model = VAE(VAEConfig(input_dim=(64,), latent_dim=20))
    peers._set_widths(model, 64)
    encoder, decoder = 65 * 400 + 2 * 401 * 20, 21 * 400 + 401 * 64
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder


def test_tvae_draws_rows_of_a_table():
    pytest.importorskip("ctgan", reason=MISSING_PEER.format("ctgan"))
    data = quality.three_clusters(400).standardized()
    (one,) = peers.tvae(data, 0, quality.Settings(epochs=1))
    assert one.samples.shape == (100, 5)
    assert np.isfinite(one.samples).all()


def run_quality(out, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality", "--quick", "--out", out, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"metrics.json", "quality.png"}
    results = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert "Traceback" not in done.stderr
    return results, done.stdout


@pytest.mark.slow
def test_training_images_are_compared_with_others_and_samples_with_all(monkeypatch):
    """Truth: the distance between two parts of the training images, and none to all of them."""
    monkeypatch.setattr("spread_jax.judgement.MAX_SAMPLES", 240)
    data = sj.load_dataset("digits")
    judge = quality.make_judge(data)
    classifier = train_classifier(jax.random.key(0), data.train, data.train_labels)
    features = classifier.features(data.train)
    between = sj.frechet_distance(features[:240], features[240:480])
    assert judge.training["frechet"] == pytest.approx(between)
    of_all = quality.judged(data.train, data, judge.metrics, judge.of_all)
    assert of_all["frechet_to_all"] == pytest.approx(0, abs=1e-6)
    assert of_all["frechet"] == pytest.approx(0, abs=1e-6)  # of the first 240
    test = sj.frechet_distance(features, classifier.features(data.test))
    assert judge.reference["frechet_to_all"] == pytest.approx(test)


@pytest.mark.slow
def test_quality_of_images_keeps_the_contract_of_its_files(tmp_path):
    pytest.importorskip("pythae", reason=MISSING_PEER.format("pythae"))
    results, shown = run_quality(tmp_path / "out", "--data", "digits")
    names = [cell["contestant"] for cell in results["cells"]]
    assert {f"pythae {name}, mixture of 10" for name in peers.PYTHAE_MODELS} < set(names)
    for cell in results["cells"]:
        assert len(cell["frechet"]) == len(cell["train_seconds"]) == 2
        assert cell["median_frechet"] > results["reference"]["frechet"]
        assert cell["median_seconds"] >= cell["median_train_seconds"] > 0
    assert results["data"]["classifier_accuracy"] > 0.9
    assert set(results["seconds_to_target"]) == set(names)
    for words in ("pythae VAE, prior", "real data", "not reached"):
        assert words in shown


@pytest.mark.slow
def test_quality_of_a_table_keeps_the_contract_of_its_files(tmp_path):
    pytest.importorskip("ctgan", reason=MISSING_PEER.format("ctgan"))
    results, shown = run_quality(tmp_path / "out", "--table", "three-clusters")
    cells = {cell["contestant"]: cell for cell in results["cells"]}
    assert {"ctgan TVAE", "Gaussian mixture by BIC"} <= set(cells)
    distances = {name: cell["median_energy_distance"] for name, cell in cells.items()}
    assert distances["Gaussian mixture by BIC"] < distances["ctgan TVAE"]
    assert "W2" in shown


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        (["--seeds", "0"], "at least 1"),
        (["--epochs", "-1"], "at least 1"),
        (["--components", "0"], "at least 1"),
        (["--data", "no-such-data"], "one of digits"),
    ],
)
def test_bad_values_of_quality_are_named(flags, accepted, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quality.py", *flags])
    monkeypatch.setattr(quality.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(SystemExit) as exit:
        command.main(quality.Settings, quality.run)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {' '.join(flags)}: must be")
    assert accepted in error
    assert not list(tmp_path.iterdir())


def test_rows_of_the_tables_of_the_pages():
    """Truth: worked out by hand."""
    from benchmarks import quality_report, sweep

    ratios = {"ratio_to_loop": 47.31, "ratio_to_stacked": 4.4, "fraction_of_limit": 0.513}
    ratios |= {"ratio_to_plain_jax": 2.96, "ratio_to_plain_jax_toy": 6.2}
    assert list(sweep.ratio_rows(ratios | {"ratio_to_plain_jax_alone": 1.314}))[1:] == [
        "64 runs, beside the PyTorch loop | 47.3",
        "64 runs, beside PyTorch with stacked weights | 4.4",
        "64 runs, beside the matrix-product limit | 0.51",
        "64 runs, beside plain JAX | 3.0",
        "64 runs of the default toy, beside plain JAX | 6.2",
        "one run, beside plain JAX | 1.31",
    ]
    rates = {"throughput": {1024: 27_223.4}, "throughput_relative": {1024: 1.02}}
    assert list(sweep.throughput_rows(rates | {"throughput_stacked": {1024: 7251.2}}))[1:] == [
        "1,024 | 27,223 | 1.02 | 7,251"
    ]
    measured = {"seconds_per_run_step": 3.67e-5, "seconds_per_multiply_add": 2.2e-11}
    rows = [measured | {"point": {"runs": 1024}, "bytes_per_run": 115_000.0}] * 2
    assert list(sweep.scaling_rows({"scaling": {"runs": {"rows": rows}}}))[1:] == [
        "runs | 1,024 | 36.7 | 22.0 | 115",
        " | 1,024 | 36.7 | 22.0 | 115",
    ]
    one = {"seconds_per_run_step": 3e-6, "bytes_per_run": 2e3}
    one |= {f"predicted_{name}": 2 * number for name, number in one.items()}
    assert list(cost.unseen_rows({"unseen": {"64 runs": one}}))[1:] == [
        "64 runs | 3.0 | 6.0 | 2 | 4"
    ]
    predicted = {"2": {"hours": 12.34, "gigabytes": 1_000.0}}
    assert list(cost.prediction_rows({"hundred_thousand_runs": predicted}))[1:] == [
        "2 | 12.3 | 1,000.0"
    ]
    terms = {"terms": dict.fromkeys(cost.TIME_TERMS, 0.25)}
    terms["terms"]["start of a step"] = 36_820.4
    numbers = {"numbers_kept_per_parameter": 3.0, "numbers_of_work": 1.234}
    errors = {"median_error": 0.098, "largest_error": 0.48}
    _, first, second, *_, work, median, largest = cost.cost_rows(terms | numbers | errors)
    assert first == "start of a step | ns a step of a group | 36,820"
    assert second == "multiply-adds | ns each | 0.25"
    assert work == "work of a step | float32 numbers for each | 1.23"
    assert median == "error of the time, median | % | 10"
    assert largest == "error of the time, largest | % | 48"
    real = {"frechet": 4.94, "precision": 0.86, "recall": 0.851}
    training = {**real, "frechet": 1.25}
    real |= {"frechet_to_all": 0.374}
    cell = {"contestant": "RAE", "epochs": 20, "frechet_to_all_interval": [0.3, 0.5]}
    cell |= {f"median_{name}": number for name, number in real.items()}
    rows = list(quality_report.peer_rows([cell], real, training))
    assert rows[1:] == [
        "RAE | 4.94 | 0.37 | 0.30 | 0.50 | 0.86 | 0.85",
        "held-out data | 4.94 | 0.37 |  |  | 0.86 | 0.85",
        "training images | 1.25 | - |  |  | 0.86 | 0.85",
    ]
    earlier = {**cell, "epochs": 10}
    assert list(quality_report.peer_rows([earlier, cell], real, None)) == rows[:-1]
