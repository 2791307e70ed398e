#!/usr/bin/env python
"""Serve many tasks on one frozen backbone over HTTP: tools/serve.py --tasks DIR [--port PORT]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.serve import main

if __name__ == '__main__':
    main()
