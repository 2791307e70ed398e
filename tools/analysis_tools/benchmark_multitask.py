#!/usr/bin/env python
"""Compare k tasks on one frozen backbone with k models: benchmark_multitask.py [--tasks N … --rounds N …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.multitask import main

if __name__ == '__main__':
    main()
