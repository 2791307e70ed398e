#!/usr/bin/env python
"""Show what a delta contains and which base it needs: inspect_delta.py DELTA."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.inspect_delta import main

if __name__ == '__main__':
    main()
