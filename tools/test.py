#!/usr/bin/env python
"""Test a model: tools/test.py CONFIG CHECKPOINT [--out --show-dir --cfg-options --launcher …]."""

from protuning_mm.apis.test import main

if __name__ == '__main__':
    main()
