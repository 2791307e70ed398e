#!/usr/bin/env python
"""Train the backbone that the demo freezes: tools/train_source.py [--out FILE --seed N --steps N]."""

import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.source import main

if __name__ == '__main__':
    main()
