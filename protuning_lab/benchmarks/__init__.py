"""Benchmarks of frozen execution, deltas and multi-task inference."""
