#!/usr/bin/env python
"""Publish a delta on the Hugging Face Hub: push_delta.py DELTA OWNER/NAME."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.push_delta import main

if __name__ == '__main__':
    main()
