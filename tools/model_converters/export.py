#!/usr/bin/env python
"""Export one task as TorchScript, torch.export or ONNX: export.py CONFIG CHECKPOINT OUT.onnx."""

from protuning_mm.apis.export import main

if __name__ == '__main__':
    main()
