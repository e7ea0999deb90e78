"""One HTML file that shows what a segmentation is worth; knows no network and no engine's work."""
