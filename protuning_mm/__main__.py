"""``python -m protuning_mm``: the same as the command ``protuning``."""

from protuning_mm.cli.main import main

if __name__ == '__main__':
    main()
