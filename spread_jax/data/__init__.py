"""Data: read from files, split, standardized and diagnosed. NumPy and scikit-learn, no JAX.

files: arrays and tables of the user's own; numbers: their columns, with names and digits; datasets:
data in three parts, by name or by path; diagnosis: are the data thin, by rank, rare_rows and
intrinsic_dimension, with the words in verdict; sigma_suggestion: which σ_fix to start from, by the
modes; standardization: columns of one scale.
"""

from spread_jax.data.datasets import Dataset, load_dataset
from spread_jax.data.diagnosis import Diagnosis, diagnose
from spread_jax.data.files import DataFileError, read_table
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
    "read_table",
    "standardize",
    "suggest_sigma",
]
