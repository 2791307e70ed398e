#!/usr/bin/env python
"""Tell what is in a delta: inspect_delta.py DELTA."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.inspect_delta import main

if __name__ == '__main__':
    main()
