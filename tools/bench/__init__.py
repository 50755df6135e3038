"""Measurements. Each module is a command; results are kept in docs/benchmarks."""
