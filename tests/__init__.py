"""Tests of llamapipe. Nothing here imports numpy before this module has been."""

import os

# The matrices of a search are small: more threads do but wait for each other, and keep busy what other tests need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
