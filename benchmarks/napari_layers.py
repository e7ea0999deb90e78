"""What napari makes of an output; for a Python that has tomoseg and napari, and a display.

    pip install 'tomoseg[view]'
    xvfb-run -s "-screen 0 1280x1000x24" python benchmarks/napari_layers.py mask.zarr napari.png

Prints each layer's kind, voxels, extent and unit, and what it shows at a voxel of the mask;
writes a picture of the window.
"""

import sys
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from tomoseg.segmentation import open_segmentation
from tomoseg.viewing import add_layers, build_layers

segmentation = open_segmentation(sys.argv[1])
viewer = napari.Viewer(title="tomoseg", axis_labels=("z", "y", "x"))
add_layers(viewer, build_layers(segmentation))
middle = segmentation.layout.shape[0] // 2
y, x = np.argwhere(segmentation.mask[middle])[0]
place = np.add(
    np.multiply((middle, y, x), segmentation.voxel_size_angstrom),
    segmentation.layout.origin_angstrom,
)
viewer.dims.set_point(0, place[0])
for layer in viewer.layers:
    layer.visible, seen = True, layer.visible
    print(
        f"napari {napari.__version__}: {layer.name}, {type(layer).__name__}, scale {layer.scale}, "
        f"{layer.units[0]}, from {layer.extent.world[0]} to {layer.extent.world[1]}, "
        f"at {(middle, int(y), int(x))}: {layer.get_value(place, world=True)}"
    )
    layer.visible = seen
print(f"arrays: saliency {segmentation.saliency[middle, y, x]}, mask 1")
for _ in range(40):  # what is looked at is read meanwhile
    QApplication.processEvents()
    time.sleep(0.1)
viewer.screenshot(sys.argv[2], canvas_only=False)
viewer.close()
