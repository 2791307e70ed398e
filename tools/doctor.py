#!/usr/bin/env python
"""Examine a config before it is trained: tools/doctor.py CONFIG [--data]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.doctor import main

if __name__ == '__main__':
    main()
