"""Is this data degenerate, will a learned variance run away on it, and which σ_fix to try?"""

from spread_jax.cli.command import main
from spread_jax.cli.diagnose import Settings, run

if __name__ == "__main__":
    main(Settings, run)
