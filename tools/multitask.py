#!/usr/bin/env python
"""Draw several tasks into one picture: tools/multitask.py --task NAME=CONFIG,CHECKPOINT … --image IMAGES --out DIR."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.multitask import main

if __name__ == '__main__':
    main()
