"""The commands: one module each, with ``parse_args`` and ``main``."""
