#!/usr/bin/env python
"""Take the frozen base out of a checkpoint: extract_delta.py CONFIG CHECKPOINT OUT."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.convert_delta import main_extract

if __name__ == '__main__':
    main_extract()
