#!/usr/bin/env python
"""Export one task to TorchScript, torch.export or ONNX: export.py CONFIG CHECKPOINT OUT.onnx."""

import signal

if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # Ctrl-C during the imports exits without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from protuning_mm.cli.export import main

if __name__ == '__main__':
    main()
