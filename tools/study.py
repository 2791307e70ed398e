#!/usr/bin/env python
"""Run a grid of trainings and tabulate the results: tools/study.py STUDY [--jobs N --resume --dry-run …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.study import main

if __name__ == '__main__':
    main()
