#!/usr/bin/env python
"""Remove the frozen base from a whole checkpoint: extract_delta.py CONFIG CHECKPOINT OUT."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.convert_delta import main_extract

if __name__ == '__main__':
    main_extract()
