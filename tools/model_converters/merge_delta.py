#!/usr/bin/env python
"""Join a delta and its base into a whole checkpoint: merge_delta.py CONFIG DELTA OUT."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.convert_delta import main_merge

if __name__ == '__main__':
    main_merge()
