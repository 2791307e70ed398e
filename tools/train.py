#!/usr/bin/env python
"""Train a model: tools/train.py CONFIG [--work-dir --amp --resume --cfg-options --launcher …]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.train import main

if __name__ == '__main__':
    main()
