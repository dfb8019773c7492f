"""What the documents show must work as it stands there."""

import re
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.S)


@pytest.fixture
def run_blocks(monkeypatch, tmp_path):
    """``(page, shorter) -> names`` of its Python blocks, run one after another in a new folder."""

    def run(page, shorter, blocks=slice(None)):
        code = "\n".join(blocks_of(page)[blocks])
        for setting, small in shorter.items():
            assert setting in code
            code = code.replace(setting, small)
        monkeypatch.setattr("spread_jax.sweeps.use_all_cores", lambda: None)  # JAX has begun
        monkeypatch.chdir(tmp_path)
        names = {}
        exec(code, names)
        return names

    return run


@pytest.mark.parametrize(("page", "place"), [("sweeps.md", 0), ("your_data.md", 2)])
def test_what_a_command_does_is_ten_lines_of_python(page, place):
    """As README says."""
    assert sum(bool(line.strip()) for line in blocks_of(page)[place].splitlines()) <= 10


@pytest.mark.slow
def test_the_failure_case_from_python(run_blocks, tmp_path, monkeypatch, capsys):
    """Truth: the plain VAE's loss is a saw, the spread VAE's is quiet, and no loss of a spread
    falls below the entropy of the spread data, -0.7276 nats."""
    shorter = {"num_steps=10_000": "num_steps=4_000", "num_seeds=16": "num_seeds=4"}
    shorter["num_seeds=20"] = "num_seeds=8"
    logged = []
    board = types.SimpleNamespace(log=lambda told, step: logged.append((step, told["median"])))
    stand_in = types.SimpleNamespace(init=lambda project: board)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    names = run_blocks("sweeps.md", shorter)
    plain, spread = names["judged"]["late_loss_std"].values
    assert spread.max() < plain.min()
    assert names["floor"] == pytest.approx(-0.7276, abs=1e-4)
    late = names["judged"]["loss"].isel(sigma_fix=1, step=slice(-100, None)).mean("step")
    assert (late > names["floor"]).all()
    assert (tmp_path / "loss.png").exists()
    assert len(list((tmp_path / "outputs/mine").iterdir())) == 2  # what was begun, and grown
    assert "\n8\n" in capsys.readouterr().out
    assert (tmp_path / "so_far.png").exists()
    assert [step for step, _ in logged] == names["judged"]["step"].values.tolist()
    assert names["params"]["decoder"]


@pytest.mark.slow
def test_your_own_data_is_trained_on_and_the_spread_is_nearer(run_blocks, capsys):
    """Shorter, as there; an energy distance falls as samples come nearer to the held-out rows."""
    names = run_blocks("your_data.md", {"num_steps=3000": "num_steps=1000"}, slice(1, 2))
    verdict, plain, *spread, _ = capsys.readouterr().out.splitlines()
    assert verdict == "degenerate"
    plain, *spread = (float(line.split()[2]) for line in (plain, *spread))
    assert max(spread) < plain
    assert names["clean"].shape == (600, 6)


@pytest.mark.slow
def test_the_recipe_of_your_own_data_gives_the_columns_back(run_blocks, tmp_path):
    """Truths: the page's own table, whose total is height + income and whose country is one."""
    shorter = {'people[:2500])\nprint("': 'people[:2500], num_steps=100, num_seeds=1)\nprint("'}
    names = run_blocks("your_data.md", shorter, slice(1))
    people, rows = names["people"], names["again"].sample(names["jax"].random.key(1), 50)
    assert list(rows.columns) == list(people.columns)
    assert (rows.dtypes == people.dtypes).all()
    np.testing.assert_allclose(rows["total"], rows["height"] + rows["income"], rtol=1e-15)
    assert set(rows["country"]) == {"EU"}
    assert set(rows["city"]) <= {"Oslo", "Rome"}
    assert (tmp_path / "report/samples.png").exists()


@pytest.mark.slow
def test_every_arm_side_by_side_is_what_fit_does(run_blocks):
    """One cell of each arm is shown; of the spread arm's two the one that is best on validation
    data, by the median of the same numbers. The recipe's own numbers are of its fitted latent."""
    shorter = {"num_steps=3_000": "num_steps=100", "num_seeds=3": "num_seeds=1"}
    shorter["latent_dim=20"] = "latent_dim=4, hidden=(32,)"
    shorter["(trained, arms, data)"] = "(trained, arms, data, latent_sizes=(1, 2))"
    names = run_blocks("your_data.md", shorter, slice(2, 3))
    judged, shown = names["compared"].cells, names["compared"].shown
    names = ["vae", "spread_vae", "shared_variance", "recipe"]
    assert list(shown["arm"].values) == names
    assert list(judged["arm"].values) == ["vae", "spread_vae", *names[1:]]
    of_spread = judged["validation_frechet"].values[1:3, 0]
    assert shown["validation_frechet"].values[1, 0] == of_spread.min()
    assert np.isfinite(shown["frechet"]).all()
    recipe = shown.isel(cell=3)
    np.testing.assert_array_equal(recipe["frechet"], recipe["frechet_fitted_latent"])


def test_the_reference_has_every_module():
    package = DOCS.parent / "spread_jax"
    modules = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in package.rglob("*.py")
        if path.name != "__init__.py" and path.parent.name != "figures"
    }
    listed = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(), flags=re.M)
    assert sorted(listed) == sorted(modules | {"spread_jax.figures"})  # shown by its public names


def test_links_between_documents_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_same_vae_in_four_libraries(run_blocks, capsys):
    """Truth: the ring; 4 seeds of each are near it, and nearer with the fitted prior."""
    pytest.importorskip("equinox", reason="one of its four VAEs is Equinox's")
    with jax.numpy_rank_promotion("allow"):  # x @ w + b
        names = run_blocks("own_vae.md", {"num_steps=4000": "num_steps=1500"})
    *distances, fitted = (
        np.array(line.strip("[]").split(), float) for line in capsys.readouterr().out.splitlines()
    )
    assert [len(distance) for distance in distances] == [4] * 4
    assert np.max(distances) < 0.3
    assert fitted < 0.6 * np.median(distances[1])  # of the model of plain functions
    assert np.isfinite(names["value"])


@pytest.mark.slow
def test_the_mixture_behind_noisy_rows(run_blocks):
    """Truth: the page's two lines; clean samples lie much nearer to them than the noise of 0.11."""
    names = run_blocks("mixtures.md", {}, slice(1))
    clean, fit = names["clean"], names["fit"]
    assert fit.converged
    assert len(fit.mixture.weights) == 2
    apart = np.minimum(abs(clean[:, 1] - 4), abs(clean[:, 1] - clean[:, 0] / 2))
    assert np.median(apart) < 0.03


@pytest.mark.slow
def test_a_flow_of_flowjax_is_trained_and_its_draws_are_cleaned(run_blocks):
    """Truth: the page's ring. Cleaned draws lie nearer to it than the same draws with their noise,
    and what is scattered about them is no nearer."""
    pytest.importorskip("flowjax", reason="the extra flows is not installed")
    with jax.numpy_rank_promotion("allow"):  # as flowjax does
        names = run_blocks("flows.md", {"num_steps=3_000": "num_steps=1_000", "seeds=8": "seeds=2"})
    distances = {
        name: float(np.mean(names["ring"].distance(names[name])))
        for name in ("noisy", "clean", "scattered")
    }
    assert names["clean"].shape == (500, 2)
    assert distances["clean"] < 0.9 * distances["noisy"]
    assert distances["clean"] < distances["scattered"]


@pytest.mark.slow
def test_the_site_of_numpyro(run_blocks):
    """Truth: scales of 1 and 0; the latter has a standard error of about 0.1 (4 / 200)^¼."""
    pytest.importorskip("numpyro", reason="the extra numpyro is not installed")
    with jax.numpy_rank_promotion("allow"):  # as NumPyro does
        names = run_blocks(
            "mixtures.md", {"NUTS(model), ": "NUTS(model), progress_bar=False, "}, slice(1, 2)
        )
    scale = names["scale"]
    assert abs(scale[0] - names["x"][:, 0].std()) < 5 / np.sqrt(400)
    assert scale[1] < 0.08


def test_the_papers_discrete_spread(run_blocks, capsys):
    """By hand: 0.9 log(0.9 / 0.2) + 0.1 log(0.1 / 0.8)."""
    run_blocks("paper.md", {})
    expected = 0.9 * np.log(4.5) + 0.1 * np.log(1 / 8)
    assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)
