"""Tags of an image: the objects that a detector finds and the concepts that a classifier knows."""
