#!/usr/bin/env python
"""Put a delta and its base together: merge_delta.py CONFIG DELTA OUT."""

from protuning_mm.apis.convert_delta import main_merge

if __name__ == '__main__':
    main_merge()
