#!/usr/bin/env python
"""Measure memory and time of frozen execution: benchmark_frozen.py [--depth 50 --size 512 512 --batch 2 --rounds 7]."""

from protuning_mm.apis.benchmarks.frozen import main

if __name__ == '__main__':
    main()
