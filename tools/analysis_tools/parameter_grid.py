#!/usr/bin/env python
"""Count the trained parameters of every tuning on the paper's backbones and tasks: parameter_grid.py [--json]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.parameter_grid import main

if __name__ == '__main__':
    main()
