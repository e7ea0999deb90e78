"""Annotation-free salient-object segmentation of large cryo-electron tomograms."""

__version__ = "0.1.0"
