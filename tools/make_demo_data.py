#!/usr/bin/env python
"""Make the demo's data: tools/make_demo_data.py --out DIR --seed N [--images N --val-images N --size H W]."""

import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.data import main

if __name__ == '__main__':
    main()
