#!/usr/bin/env python
"""Count trained and frozen parameters: count_params.py CONFIG… [--json | --markdown]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.count_params import main

if __name__ == '__main__':
    main()
