"""Volume formats: the only room that knows MRC, Zarr and OME-Zarr.

Knows no networks, no lattices of tasks and no journal: paths and boxes in, arrays out.
"""
