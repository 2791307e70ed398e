#!/usr/bin/env python
"""Draw the errors of a test: tools/analysis_tools/plot_errors.py CONFIG PREDICTIONS --out FOLDER."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.pictures.plot_errors import main

if __name__ == '__main__':
    main()
