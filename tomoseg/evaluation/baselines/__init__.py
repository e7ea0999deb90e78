"""Rivals: published methods that find salient objects, behind one interface.

Each is a function of intensities alone (`Baseline`), of images and volumes by the same code;
tables take them by the names under which they are registered here.
"""
