#!/usr/bin/env python
"""Tell what is in a delta: inspect_delta.py DELTA."""

from protuning_mm.apis.inspect_delta import main

if __name__ == '__main__':
    main()
