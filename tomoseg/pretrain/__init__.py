"""Supervised pre-training on simulated tomograms (the P of PUB-SalNet).

Knows the network and arrays with their truth; knows no volume formats and no segmenting.
"""
