#!/usr/bin/env python
"""Test a model: tools/test.py CONFIG CHECKPOINT [--out --show-dir --cfg-options --launcher …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.test import main

if __name__ == '__main__':
    main()
