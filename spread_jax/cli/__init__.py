"""What every command shares: its flags and error messages, its progress, its files.

No module here imports JAX at its top: ``--help`` and a wrong flag must answer at once.
"""
