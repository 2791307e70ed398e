#!/usr/bin/env python
"""Train variants of a config with several seeds and list a metric: compare_runs.py CONFIG --metric M --variant …."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.compare_runs import main

if __name__ == '__main__':
    main()
