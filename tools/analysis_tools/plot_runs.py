#!/usr/bin/env python
"""Draw training curves of several runs: tools/analysis_tools/plot_runs.py RUN_DIR… --metric NAME… --out FILE."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_lab.pictures.plot_runs import main

if __name__ == '__main__':
    main()
