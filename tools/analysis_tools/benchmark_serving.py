#!/usr/bin/env python
"""Measure a server under load: benchmark_serving.py [--url URL] [--clients N --seconds S --tasks K]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.serving import main

if __name__ == '__main__':
    main()
