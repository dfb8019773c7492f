"""Commands: each module is one, ``python -m experiments.<name>``, run from a clone."""
