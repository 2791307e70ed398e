#!/usr/bin/env python
"""Draw accuracy by class: tools/analysis_tools/plot_long_tail.py NAME=FILE.pkl… --config CONFIG --out FILE."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.pictures.plot_long_tail import main

if __name__ == '__main__':
    main()
