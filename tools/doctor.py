#!/usr/bin/env python
"""Check a config, its model and its data before training: tools/doctor.py CONFIG [--data]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.doctor import main

if __name__ == '__main__':
    main()
