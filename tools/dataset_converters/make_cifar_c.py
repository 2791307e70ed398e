#!/usr/bin/env python
"""Corrupt CIFAR's test set into files in the layout of CIFAR-10-C: make_cifar_c.py data/cifar10 OUT [--jobs 8]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.make_cifar_c import main

if __name__ == '__main__':
    main()
