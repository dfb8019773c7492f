"""The console script `spread-jax`: diagnose, fit and sample."""

import sys
from typing import Any


def main() -> None:
    """Parses the command line and runs the command."""
    try:
        import tyro
    except ImportError as error:
        sys.exit(f"spread-jax needs {error.name}: pip install 'spread_jax[cli]'")
    from spread_jax.cli import diagnose, fit, sample
    from spread_jax.cli.command import carry_out

    commands = {"diagnose": diagnose, "fit": fit, "sample": sample}

    def parse() -> diagnose.Settings | fit.Settings | sample.Settings:
        return tyro.extras.subcommand_cli_from_dict(
            {name: module.Settings for name, module in commands.items()},
            prog="spread-jax",
            description="Fit a model to your own data, also if the data are degenerate, and draw "
            "clean rows from it.",
            config=(tyro.conf.FlagCreatePairsOff,),
        )

    def run(settings: Any) -> None:
        next(each for each in commands.values() if isinstance(settings, each.Settings)).run(
            settings
        )

    carry_out(parse, run)
