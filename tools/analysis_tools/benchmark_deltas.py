#!/usr/bin/env python
"""Compare sizes of deltas and whole checkpoints, and the time to check them: benchmark_deltas.py [CONFIG ...]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.deltas import main

if __name__ == '__main__':
    main()
