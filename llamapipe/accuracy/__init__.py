"""Agreement and average precision: how good a set of boxes is."""
