"""From a mask to particles: components across shards, splitting, measuring, selecting."""
