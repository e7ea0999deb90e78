"""Tomograms with known truth; knows no networks and no Dask."""
