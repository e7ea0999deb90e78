"""The network and its refinement: arrays in, arrays out.

Knows torch; knows no volume formats, no tasks and no Dask. Importing this package alone
loads nothing heavy: `architecture` and `memory` are plain arithmetic, the rest needs torch.
"""
