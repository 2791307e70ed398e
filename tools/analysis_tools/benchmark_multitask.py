#!/usr/bin/env python
"""Measure k tasks on one frozen backbone against k models; --help says what can be set."""

from protuning_mm.apis.benchmarks.multitask import main

if __name__ == '__main__':
    main()
