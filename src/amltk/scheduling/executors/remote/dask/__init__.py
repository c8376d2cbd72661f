"""Dask, and the batch systems that it can use."""
