#!/usr/bin/env python
"""Train a model: tools/train.py CONFIG [--work-dir --amp --resume --cfg-options --launcher …]."""

from protuning_mm.apis.train import main

if __name__ == '__main__':
    main()
