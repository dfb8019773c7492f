"""A small table of the kinds of columns that people have; `python people.py FILE` writes it."""

import sys

import numpy as np
import pandas as pd


def people(n=400):
    rng = np.random.default_rng(0)
    height, weight = np.round(rng.normal(1.7, 0.1, n), 2), np.round(rng.normal(70, 9, n), 1)
    return pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "sum": height + weight,
            "height": height,
            "weight": weight,
            "site": 7,
            "city": rng.choice(["Ulm", "Rom", "Bern"], n),
        }
    )


if __name__ == "__main__":
    people().to_csv(sys.argv[1], index=False)
