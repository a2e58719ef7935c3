"""Auto-tuning against a full sweep: ``python -m benchmarks.autotune --help``, and docs/autotuning.md."""
