#!/usr/bin/env python
"""Measure k tasks on one frozen backbone against k models; --help says what can be set."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.benchmarks.multitask import main

if __name__ == '__main__':
    main()
