"""Slurm without Dask: each call is a batch job of its own, which goes on without this program and is found again."""
