"""Programs that a good engineer would write by hand for one job: what llamapipe is measured against."""
