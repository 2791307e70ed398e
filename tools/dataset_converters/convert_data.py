#!/usr/bin/env python
"""Convert a data set of another tool: convert_data.py SOURCE NEW_FOLDER [--classes A,B]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.convert_data import main

if __name__ == '__main__':
    main()
