#!/usr/bin/env python
"""Sizes of deltas and whole checkpoints, and what checking them costs: benchmark_deltas.py [CONFIG ...]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.deltas import main

if __name__ == '__main__':
    main()
