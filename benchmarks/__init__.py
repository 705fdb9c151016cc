"""What headcount costs, measured: `python -m benchmarks` (README.md)."""
