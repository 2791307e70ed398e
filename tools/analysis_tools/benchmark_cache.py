#!/usr/bin/env python
"""Time epochs on images and on cached features: benchmark_cache.py [--tunings NAME … --images N …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.cached_features import main

if __name__ == '__main__':
    main()
