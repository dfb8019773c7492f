"""The argument for a spread: divergences of two points against their distance, and their slopes."""

import dataclasses
import time
from pathlib import Path

from spread_jax.cli.command import main
from spread_jax.cli.output import OutputFolder, host_environment
from spread_jax.cli.settings import require_distinct, require_non_negative, require_positive
from spread_jax.cli.tables import number_text, print_table

NUM_DISTANCES = 201


@dataclasses.dataclass(frozen=True)
class Settings:
    """Draws f-divergences of two points against their distance, and their slopes, for several
    sigma_fix. Without a spread (sigma_fix 0) there is no slope for a training to follow."""

    sigma_fix: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    """Standard deviations of the noise, in data units. 0 means no spread."""
    max_distance: float = 3.0
    """Largest distance between the two points, in data units."""
    out: Path = Path("outputs/divergences")
    """Folder for the results."""

    def check(self) -> None:
        for sigma_fix in self.sigma_fix:
            require_non_negative("--sigma-fix", sigma_fix, "data units")
        require_distinct("--sigma-fix", self.sigma_fix)
        require_positive("--max-distance", self.max_distance, "data units")


def run(settings: Settings) -> None:
    started = time.perf_counter()
    output = OutputFolder(settings.out)
    import numpy as np

    from spread_jax.divergences import divergence_curves
    from spread_jax.figures import divergence_figure

    distance = np.linspace(0, settings.max_distance, NUM_DISTANCES)
    dataset = divergence_curves(distance, settings.sigma_fix)
    output.write_dataset("results.nc", dataset)
    output.write_figure("divergences.png", divergence_figure(dataset))
    slopes = dataset["slope"].isel(distance=slice(1, None)).max("distance", skipna=False)
    sigmas = [f"{sigma_fix:g}" for sigma_fix in settings.sigma_fix]
    largest = {
        name: dict(zip(sigmas, slopes.sel(name=name).values.tolist(), strict=True))
        for name in dataset["name"].values.tolist()
    }
    environment = host_environment(started, ("numpy", "scipy"))
    config = dataclasses.asdict(settings)
    output.write_metrics({"config": config, "environment": environment, "largest_slope": largest})
    print_table(
        "largest slope, by sigma_fix",
        ["", *sigmas],
        [
            [name, *("none" if s == "0" else number_text(slope) for s, slope in by_sigma.items())]
            for name, by_sigma in largest.items()
        ],
        caption=f"per data unit, distances up to {settings.max_distance:g}; none: it jumps",
    )
    print(f"written to {output.path}/")


if __name__ == "__main__":
    main(Settings, run)
