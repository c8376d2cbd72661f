"""The jobs of a batch system in which the workers of a Dask cluster run."""
