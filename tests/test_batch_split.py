"""One run on several devices, which share its batch: it is the run of one device, to rounding."""

import signal
import socket
import textwrap

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spread_jax as sj
from spread_jax import sweeps
from spread_jax.sweeps import groups, sources, split

# sums over the batch are in another order; Adam passes their last digits on
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
DATA = np.random.default_rng(0).random((100, 16), dtype=np.float32)
GRID = {"sigma_fix": 0.1, "learning_rate": 1e-3}


def coupling_flow():
    """A density with a network: half of y is a Gaussian that the other half shifts and scales."""

    def init(key):
        return {"in": 0.3 * jax.random.normal(key, (8, 12)), "out": jnp.zeros((12, 16))}

    def log_prob(params, y):
        mean, log_std = jnp.split(jnp.tanh(y[..., :8] @ params["in"]) @ params["out"], 2, axis=-1)
        given = jax.scipy.stats.norm.logpdf(y[..., 8:], mean, jnp.exp(log_std)).sum(-1)
        return jax.scipy.stats.norm.logpdf(y[..., :8]).sum(-1) + given

    draws = {"sample": lambda params, key, n: jax.random.normal(key, (n, 16))}
    return sj.density_model(init=init, log_prob=log_prob, **draws)


MODELS = {
    "vae": lambda: sj.make_vae(16, latent_dim=2, hidden=(8,)),
    "flow": coupling_flow,
    "conv": lambda: sj.make_vae(16, latent_dim=2, network="conv", shape=(4, 4)),
    "mixture": lambda: sj.mixture_model(16, 3),
}


def training(model="vae", batch_size=64, num_steps=20):
    sample_batch = sj.rows(batch_size)
    return sj.model_training(MODELS[model](), sample_batch=sample_batch, num_steps=num_steps)


def split_any():
    """Batches are split however little a device has to do; a list tells over how many devices."""
    told = []
    decide = split.devices_per_run

    def devices_per_run(*arguments):
        told.append(decide(*arguments))
        return told[-1]

    split.least_flops = lambda at_once: 1
    sweeps.engine.devices_per_run = devices_per_run
    return told


def as_on_accelerators():
    """A network with convolutions is trained in the scan, where a CPU is slow at them."""
    trace = sweeps.feeds.trace
    sweeps.feeds.trace = lambda *arguments: (trace(*arguments)[0], False)


def numbers(runs):
    return [runs.dataset["loss"].values, *jax.tree.leaves(runs.stacked_params)]


def require_same(some, others, **tolerance):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


SWEEP = """
    import os, signal, sys
    import jax
    import numpy as np
    model, num_devices, num_runs, out, then = sys.argv[1:6]
    jax.config.update("jax_num_cpu_devices", int(num_devices))
    if then == "two":
        jax.distributed.initialize(sys.argv[6], 2, int(sys.argv[7]))
    sys.path.insert(0, "tests")
    from test_batch_split import DATA, GRID, as_on_accelerators, numbers, split_any, training
    from spread_jax import sweeps

    def kill(records):
        if then == "kill" and records.done > 7:
            os.kill(os.getpid(), signal.SIGKILL)

    if model == "conv" and then == "two":
        as_on_accelerators()
    told, options = split_any(), {"num_seeds": int(num_runs), "on_record": kill}
    if then in ("kill", "resume"):
        options["checkpoints"] = out + ".checkpoints"
    data = DATA
    if then == "two":
        np.save(f"{out}.data{sys.argv[7]}.npy", DATA)
        data = np.load(f"{out}.data{sys.argv[7]}.npy", mmap_mode="r")
    runs = sweeps.sweep(training(model), GRID, **options, data=data)
    np.savez(out, *numbers(runs), told=told, steps=runs.trained_run_steps)
"""


def start(model, num_devices, num_runs, out, then="", *address):
    arguments = [model, num_devices, num_runs, out, then, *address]
    return forked.start("-c", textwrap.dedent(SWEEP), *arguments)


def finished(*arguments):
    """Numbers of the sweep, over how many devices a batch was split, and the steps trained."""
    assert start(*arguments).wait(timeout=300) == 0
    return read(arguments[3])


def read(out):
    with np.load(f"{out}.npz") as found:
        arrays = [found[name] for name in found if name.startswith("arr_")]
        return arrays, found["told"].tolist(), int(found["steps"])


def on_one_device(model, num_runs):
    """Here there are two devices, and a run that has so little to do has one of them."""
    return numbers(sweeps.sweep(training(model), GRID, num_seeds=num_runs, data=DATA))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "num_devices", "num_runs"),
    [("vae", 2, 1), ("vae", 4, 1), ("vae", 8, 1), ("vae", 8, 2), ("flow", 8, 2), ("conv", 8, 2)],
)
def test_several_devices_are_one_to_rounding(model, num_devices, num_runs, tmp_path):
    found, told, _ = finished(model, num_devices, num_runs, tmp_path / "several")
    assert told == [num_devices // num_runs]
    require_same(found, on_one_device(model, num_runs), **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "conv"])
def test_two_processes_of_two_devices_are_one_to_rounding(model, tmp_path):
    """The batch of the one run crosses the processes, each of which reads its rows of a memmap;
    convolutions as on accelerators, since CPUs do not split them over processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outs = [tmp_path / str(i) for i in range(2)]
    both = [start(model, 2, 1, out, "two", address, i) for i, out in enumerate(outs)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    one = on_one_device(model, 1)
    for out in outs:
        found, told, _ = read(out)
        assert told == [4]
        require_same(found, one, **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "conv"])
def test_a_kill_changes_no_bit(model, tmp_path):
    """Truth: the sweep that nothing ends."""
    out = tmp_path / "killed"
    assert start(model, 2, 1, out, "kill").wait(timeout=300) == -signal.SIGKILL
    resumed, told, steps = finished(model, 2, 1, out, "resume")
    assert told == [2]
    assert 0 < steps < 20
    whole, _, all_steps = finished(model, 2, 1, tmp_path / "whole")
    assert all_steps == 20
    require_same(resumed, whole, rtol=0, atol=0)


@pytest.fixture
def any_is_split(monkeypatch):
    for module, name in ((sweeps.engine, "devices_per_run"), (split, "least_flops")):
        monkeypatch.setattr(module, name, getattr(module, name))  # is put back afterwards
    return split_any()


@pytest.mark.slow
def test_a_batch_that_the_devices_do_not_divide(any_is_split, monkeypatch):
    """Truth: one device."""
    options = {"num_seeds": 1, "data": DATA}
    found = sweeps.sweep(training(batch_size=51), GRID, **options)
    monkeypatch.setattr(split, "least_flops", lambda at_once: np.inf)
    one = sweeps.sweep(training(batch_size=51), GRID, **options)
    assert any_is_split == [2, 1]
    require_same(numbers(found), numbers(one), **ROUNDING)


@pytest.mark.slow
def test_the_program_adds_up_once_a_step_and_gathers_no_batch():
    """Truth: a batch of one device needs nothing of another, and the sum of the gradients is all
    that two must tell each other."""
    run = (np.zeros(1, np.uint32), {name: np.float32([value]) for name, value in GRID.items()})

    def collectives(of_each):
        sweep = sweeps.Groups(1, 10_000, of_each)
        (inputs,) = sweep.to_devices(run)
        state = sweep.compile(sweeps.initialiser(training()), inputs)(inputs)
        data = sweep.to_every_device(DATA)
        text = sweep.compile_records(training(), state, data, 20, 1).as_text()
        assert ("num_partitions=2" in text) == (of_each == 2)
        # of the first layer's 16 x 8 products each device has those of 32 rows
        assert ("f32[1,32,8]" in text) == (of_each == 2)
        return split.COLLECTIVE.findall(text)

    assert collectives(2) == ["all-reduce"]
    assert collectives(1) == []


def decided(model, num_runs, batch_size=64):
    of_training = training(model, batch_size)
    step = groups.stepper(of_training)
    run = (np.uint32(0), {name: np.float32(value) for name, value in GRID.items()})
    state = jax.eval_shape(sweeps.initialiser(of_training), run)
    return split.devices_per_run(num_runs, jax.devices(), step, state, DATA, True)


@pytest.mark.slow
def test_what_xla_would_gather_has_one_device(any_is_split):
    """A mixture solves a triangular system for the whole batch at once."""
    assert decided("vae", 1) == 2
    assert decided("mixture", 1) == 1
    assert decided("vae", 1, batch_size=1) == 1


def test_a_small_step_or_as_many_runs_as_devices_has_one_device():
    assert decided("vae", 1) == 1
    nothing = None  # is looked at
    assert split.devices_per_run(2, jax.devices(), nothing, nothing, nothing, True) == 1
    assert split.devices_per_run(3, jax.devices(), nothing, nothing, nothing, False) == 1


@pytest.mark.slow
def test_each_device_reads_its_rows_of_a_stream(any_is_split, tmp_path, monkeypatch):
    """Truth: the data in memory; and of each step the rows of one batch are read."""
    np.save(tmp_path / "x.npy", DATA)
    num_read = []
    read = sources.RowSource.read

    def counted(self, places):
        num_read.append(places.size)
        return read(self, places)

    pixels = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(sources.RowSource, "read", counted)
    streamed = sweeps.sweep(training(), GRID, num_seeds=1, data=pixels)
    assert any_is_split == [2]
    assert num_read[1:] == [32] * 40  # a chunk is a step; before them all rows are looked at
    monkeypatch.setattr(split, "least_flops", lambda at_once: np.inf)
    require_same(numbers(streamed), on_one_device("vae", 1), **ROUNDING)
