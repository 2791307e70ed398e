#!/usr/bin/env python
"""Draw and write predictions: tools/predict.py CONFIG CHECKPOINT IMAGES-OR-FOLDER --out DIR."""

from protuning_mm.apis.predict import main

if __name__ == '__main__':
    main()
