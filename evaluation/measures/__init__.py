"""What is measured of a model: scores, maps, confidences, time, lineage."""
