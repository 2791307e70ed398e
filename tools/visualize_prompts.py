#!/usr/bin/env python
"""Draw what the prompts change: tools/visualize_prompts.py CONFIG CHECKPOINT IMAGES-OR-FOLDER --out DIR."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.pictures.visualize_prompts import main

if __name__ == '__main__':
    main()
