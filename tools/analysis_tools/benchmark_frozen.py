#!/usr/bin/env python
"""Measure memory and time of frozen execution: benchmark_frozen.py [--depth 50 --size 512 512 --batch 2 --rounds 7]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.frozen import main

if __name__ == '__main__':
    main()
