#!/usr/bin/env python
"""Evaluate a checkpoint or delta: tools/test.py CONFIG CHECKPOINT [--out --show-dir --cfg-options --launcher …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.test import main

if __name__ == '__main__':
    main()
