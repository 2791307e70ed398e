#!/usr/bin/env python
"""Put a delta and its base together: merge_delta.py CONFIG DELTA OUT."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.convert_delta import main_merge

if __name__ == '__main__':
    main_merge()
