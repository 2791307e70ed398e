#!/usr/bin/env python
"""Sizes of deltas and whole checkpoints, and what checking them costs: benchmark_deltas.py [CONFIG ...]."""

from protuning_mm.apis.benchmarks.deltas import main

if __name__ == '__main__':
    main()
