#!/usr/bin/env python
"""Write a short config for a folder of data: init_config.py DATA my_config.py [--model NAME] [--memory GB]."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.init_config import main

if __name__ == '__main__':
    main()
