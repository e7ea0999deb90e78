"""Tomograms from another imaging path than the one that training data come from.

Never train on these: they measure what a network does on data unlike anything it has seen.
"""
