"""The sweep command: its files, its resumption, its processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr

from experiments import sweep
from spread_jax.cli import command
from spread_jax.cli.output import digest

SMALL = ["--steps", "400", "--hidden", "8", "--seeds", "2", "--sigma-fix", "0", "0.1"]


CORES = sorted(os.sched_getaffinity(0))[:2]  # a device each, whatever the machine has


def command_line(out, *arguments):
    return ["-m", "experiments.sweep", *SMALL, "--out", str(out), *arguments]


def start(out, *arguments, cores=CORES):
    return forked.start(*command_line(out, *arguments), cores=cores)


def run(out, *arguments):
    """Exit status and stderr."""
    process = start(out, *arguments)
    _, error = process.communicate(timeout=300)
    return process.returncode, error


def finish(out, *arguments):
    status, error = run(out, *arguments)
    assert status == 0, error
    return json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture
def finish_here(monkeypatch):
    """The same as ``finish`` in this process, whose JAX has begun on two devices too: most of a
    short sweep's time is that of a process that starts."""

    def finish(out, *arguments):
        monkeypatch.setattr(sweep, "start_jax", lambda settings: None)
        monkeypatch.setattr(sys, "argv", ["sweep.py", *command_line(out, *arguments)[2:]])
        command.main(sweep.Settings, sweep.run)
        return json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)

    return finish


def wait_for_checkpoint(process, out):
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("*.checkpoint")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digest and the folder of the small sweep, run without a break."""
    out = tmp_path_factory.mktemp("whole")
    return finish(out), out


@pytest.mark.slow
def test_the_command_keeps_the_contract_of_its_files(whole):
    metrics, out = whole
    assert {"recovery.png", "distance.png", "stability.png", "price.png", "loss_fan.png"} < {
        path.name for path in out.iterdir()
    }
    assert not (out / "loss_so_far.png").exists()  # of a run on its way
    assert metrics["trained_runs"] == 4
    keys = {"run_steps_per_second", "compile_seconds", "wall_seconds", "devices", "processes"}
    assert keys | {"digest", "cells", "config", "environment"} <= set(metrics)
    assert [(c["sigma_fix"], c["learning_rate"]) for c in metrics["cells"]] == [
        (0, 1e-3),
        (0.1, 1e-3),
    ]
    cell = metrics["cells"][1]
    assert {"recovery_rate", "recovery_interval", "spread_kl_at_reference"} <= set(cell)
    assert cell["spread_kl_at_reference"] == cell["median_spread_kl"]  # the reference is 0.1
    with xr.open_dataset(out / "results.nc") as dataset:
        assert digest(dataset) == metrics["digest"]
        assert dict(dataset.sizes) == {
            "sigma_fix": 2, "learning_rate": 1, "seed": 2, "step": 400, "component": 2, "dim": 2
        }  # fmt: skip
        assert all({"long_name", "units"} <= set(v.attrs) for v in dataset.data_vars.values())
        assert np.isnan(dataset["spread_kl"].sel(sigma_fix=0)).all()


def test_a_digest_sees_one_bit():
    dataset = xr.Dataset({"a": ("x", np.zeros(3)), "b": ("x", np.ones(3))})
    same = xr.Dataset({"b": ("x", np.ones(3)), "a": ("x", np.zeros(3))})
    other = dataset.assign(a=dataset["a"] + np.array([0, 0, 5e-324]))
    assert digest(dataset) == digest(same) != digest(other)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_says_how_to_resume_and_loses_nothing(number, status, whole, tmp_path):
    process = start(tmp_path, "--quiet")
    wait_for_checkpoint(process, tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert "To go on:" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert not (tmp_path / "metrics.json").exists()
    assert finish(tmp_path, "--resume")["digest"] == whole[0]["digest"]


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(20))
def test_a_kill_at_a_random_moment_ends_in_the_same_digest(kill, whole, finish_here, tmp_path):
    process = start(tmp_path, "--quiet")
    wait_for_checkpoint(process, tmp_path)
    # the twenty chunks and their saves take about half a second
    time.sleep(random.Random(kill).uniform(0, 0.5))
    process.kill()
    process.communicate()
    assert finish_here(tmp_path, "--resume", "--quiet")["digest"] == whole[0]["digest"]


@pytest.fixture
def killed(tmp_path):
    """A folder with checkpoints of a sweep that was killed."""
    process = start(tmp_path, "--quiet")
    wait_for_checkpoint(process, tmp_path)
    process.kill()
    process.communicate()
    return tmp_path


@pytest.mark.slow
def test_runs_of_other_settings_are_named_and_kept(killed):
    (path,) = (killed / "checkpoints").glob("*.checkpoint")
    before = path.read_bytes()
    status, error = run(killed, "--quiet", "--batch-size", "64", "--sigma-fix", "0", "0.1", "0.3")
    assert status == 0, error
    (told,) = (line for line in error.splitlines() if "checkpoints" in line)
    assert "has 4 of these runs as another training left them" in told
    assert "batch_size was 128, is 64" in told
    assert path.read_bytes() == before
    assert json.loads((killed / "metrics.json").read_text())["trained_runs"] == 6


@pytest.mark.slow
def test_a_damaged_checkpoint_gets_one_message(whole, killed):
    """And without the file its runs are trained again."""
    (path,) = (killed / "checkpoints").glob("*.checkpoint")
    path.write_bytes(path.read_bytes()[:-10])
    status, error = run(killed, "--resume", "--quiet")
    assert status == 2
    assert f"{path}: cannot be read" in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    path.unlink()
    assert finish(killed, "--resume")["digest"] == whole[0]["digest"]


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "thesis.tex").write_text("precious")
    status, error = run(tmp_path, "--quiet")
    assert status == 2
    assert "no sweep's checkpoint folder" in error
    assert (tmp_path / "checkpoints" / "thesis.tex").read_text() == "precious"


@pytest.mark.slow
def test_a_full_disk_gets_one_message():
    """/dev/full's file system is not a folder; a tiny tmpfs is, where we may mount one."""
    mount = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c"),
            'mount -t tmpfs -o size=64k none /mnt && exec "$@"',
            *("sh", sys.executable),
            *command_line("/mnt/out", "--quiet"),
        ],
        capture_output=True,
        text=True,
    )
    if "unshare" in mount.stderr or "mount:" in mount.stderr:
        pytest.skip("this machine lets no one mount a file system")
    assert mount.returncode == 2, mount.stderr
    assert "--out" in mount.stderr
    assert "Traceback" not in mount.stderr


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# Users' processes wait for 30 seconds until they take another one for dead; these wait for 10
IMPATIENT_SWEEP = """\
import runpy
from spread_jax.cli import command
command.HEARTBEAT_SECONDS = 10
runpy.run_module("experiments.sweep", run_name="__main__", alter_sys=True)
"""


def start_two(out, program=("-m", "experiments.sweep")):
    """Interpreters of their own, whose ends wait for each other."""
    coordinator = f"127.0.0.1:{free_port()}"
    return coordinator, [
        subprocess.Popen(
            [
                *("taskset", "--cpu-list", str(core), sys.executable),
                *(*program, *command_line(out, "--quiet")[2:]),
                *("--distributed", "--num-processes=2"),
                *(f"--coordinator={coordinator}", f"--process-id={i}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, core in enumerate(CORES)
    ]


@pytest.mark.slow
def test_two_processes_equal_one_and_listen_only_where_told(whole, tmp_path):
    coordinator, processes = start_two(tmp_path)
    wait_for_checkpoint(processes[0], tmp_path)
    port = int(coordinator.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    # 127.0.0.1, also where an IPv6 socket holds it as ::ffff:127.0.0.1
    assert listening
    assert all(address.endswith(f"0100007F:{port:04X}") for address in listening)
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["processes"] == metrics["devices"] == 2
    assert metrics["digest"] == whole[0]["digest"]


@pytest.mark.slow
def test_a_killed_process_stops_the_other_and_costs_at_most_a_chunk(whole, tmp_path):
    _, processes = start_two(tmp_path, ("-c", IMPATIENT_SWEEP))
    wait_for_checkpoint(processes[0], tmp_path)
    processes[1].kill()
    processes[1].communicate()
    killed = time.monotonic()
    processes[0].communicate(timeout=90)
    assert time.monotonic() - killed < 30
    assert processes[0].returncode != 0
    # on one process with its two devices: another process count, the same digits
    assert finish(tmp_path, "--resume")["digest"] == whole[0]["digest"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sigma-fix", "0.1", "-1"],
        ["--sigma-fix", "0.1", "0.1"],
        ["--sigma-fix"],
        ["--learning-rate", "1e-3", "nan"],
        ["--reference-sigma", "0"],
        ["--record-every", "7"],
        ["--record-every", "0"],
        ["--coordinator", "127.0.0.1:1"],
        ["--distributed", "--coordinator", "127.0.0.1:1", "--num-processes", "2"],
        ["--distributed", "--coordinator", "x", "--num-processes", "2", "--process-id", "0"],
        ["--distributed", "--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"],
    ],
)
def test_bad_values_are_named(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        command.main(sweep.Settings, sweep.run)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("error: --")
    assert "must be" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
