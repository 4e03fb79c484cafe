"""Models on disk: bundles, the tensors that they share, and the folder that holds them."""
