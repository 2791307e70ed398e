#!/usr/bin/env python
"""Take the frozen base out of a checkpoint: extract_delta.py CONFIG CHECKPOINT OUT."""

from protuning_mm.apis.convert_delta import main_extract

if __name__ == '__main__':
    main_extract()
