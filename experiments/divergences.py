"""The argument for a spread: divergences of two points against their distance, and their slopes."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import command

if TYPE_CHECKING:
    from spread_jax.divergences import Divergence

NAMES: tuple["Divergence", ...] = ("kl", "reverse_kl", "js", "tv", "hellinger")
NUM_DISTANCES = 201


@dataclasses.dataclass(frozen=True)
class Settings:
    """The argument for a spread: f-divergences of two points against their distance, and their
    slopes, for several sigma_fix; without a spread (0) there is no slope to follow."""

    sigma_fix: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    """Standard deviations of the noise, in data units; 0 is no spread."""
    max_distance: float = 3.0
    """Largest distance of the points, in data units."""
    out: Path = Path("outputs/divergences")
    """Folder for the results."""

    def check(self) -> None:
        command.require(len(self.sigma_fix) > 0, "--sigma-fix", "", "one number or more")
        for sigma_fix in self.sigma_fix:
            command.require_non_negative("--sigma-fix", sigma_fix, "data units")
        command.require(
            len(set(self.sigma_fix)) == len(self.sigma_fix),
            "--sigma-fix",
            " ".join(map(str, self.sigma_fix)),
            "given once each",
        )
        command.require_positive("--max-distance", self.max_distance, "data units")


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = command.OutputFolder(settings.out)
    import numpy as np
    import xarray as xr

    from spread_jax import figures
    from spread_jax.divergences import point_divergence

    distance = np.linspace(0, settings.max_distance, NUM_DISTANCES)
    curves = np.array(
        [
            [point_divergence(distance, sigma_fix, name) for sigma_fix in settings.sigma_fix]
            for name in NAMES
        ]
    )
    values, slopes = curves[:, :, 0], curves[:, :, 1]
    dims = ("name", "sigma_fix", "distance")
    dataset = xr.Dataset(
        {
            "divergence": (
                dims,
                values,
                {"long_name": "divergence of two points", "units": "nats"},
            ),
            "slope": (dims, slopes, {"long_name": "its slope", "units": "nats / data unit"}),
        },
        coords={"name": list(NAMES), "sigma_fix": list(settings.sigma_fix), "distance": distance},
    )
    output.write_dataset("results.nc", dataset)
    output.write_figure("divergences.png", figures.divergence_figure(dataset))
    largest = {
        name: {
            f"{sigma_fix:g}": float(np.max(slopes[i, j, 1:]))
            for j, sigma_fix in enumerate(settings.sigma_fix)
        }
        for i, name in enumerate(NAMES)
    }
    for name, slope in largest.items():
        words = ", ".join(
            f"{'none' if sigma_fix == '0' else f'{value:.3g}'} at {sigma_fix}"  # no spread: a jump
            for sigma_fix, value in slope.items()
        )
        print(f"{name}: largest slope over the distances, by sigma_fix: {words}")
    output.write_metrics(
        {
            "config": command.config(settings),
            "environment": command.host_environment(started, ("numpy", "scipy")),
            "largest_slope": largest,
        }
    )
    print(f"written to {output.path}/")


if __name__ == "__main__":
    command.main(Settings, run)
