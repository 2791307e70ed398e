#!/usr/bin/env python
"""Decode and resize the images of a classification config once: cache_images.py CONFIG OUT --size 96."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.cache_images import main

if __name__ == '__main__':
    main()
