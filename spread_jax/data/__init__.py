"""Data: read from files, split, standardized and diagnosed. NumPy, pandas, scikit-learn; no JAX.

reading: tables in the user's own files (text_files: .csv; files: arrays); tables: a table as
numbers, and back (frames, columns, relations); numbers: columns of numbers, with names and digits;
datasets: data in three parts, by name or by path (published: MNIST and others; image_files: of a
folder; images: as rows of pixels); sources: rows that stay on the disk (memmaps; parts, of several
files; parquet_parts); streams: what a fit needs of them (whole_tables: the transform of their
columns); diagnosis: are the data thin, by rank, rare_rows and intrinsic_dimension of scaled_rows,
with the words in verdict; latent_dim: how many numbers z needs; sigma_suggestion: which σ_fix to
start from, by the modes; standardization: columns of one scale.
"""

from spread_jax.data.datasets import Dataset, load_dataset
from spread_jax.data.diagnosis import Diagnosis, diagnose
from spread_jax.data.files import DataFileError
from spread_jax.data.parts import open_parts
from spread_jax.data.reading import read_table
from spread_jax.data.sigma_suggestion import SuggestedSigma, suggest_sigma
from spread_jax.data.standardization import Standardization, standardize

__all__ = [
    "DataFileError",
    "Dataset",
    "Diagnosis",
    "Standardization",
    "SuggestedSigma",
    "diagnose",
    "load_dataset",
    "open_parts",
    "read_table",
    "standardize",
    "suggest_sigma",
]
