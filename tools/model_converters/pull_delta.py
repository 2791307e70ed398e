#!/usr/bin/env python
"""Download a delta from the Hugging Face Hub: pull_delta.py OWNER/NAME."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.pull_delta import main

if __name__ == '__main__':
    main()
