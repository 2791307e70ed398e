#!/usr/bin/env python
"""Train the network that the demo keeps frozen: tools/train_source.py [--out FILE --seed N --steps N]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.source import main

if __name__ == '__main__':
    main()
