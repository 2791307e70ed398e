#!/usr/bin/env python
"""Draw what the prompts do: tools/visualize_prompts.py CONFIG CHECKPOINT IMAGES-OR-FOLDER --out DIR."""

from protuning_mm.apis.pictures.visualize_prompts import main

if __name__ == '__main__':
    main()
