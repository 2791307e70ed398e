"""What tunings add to a frozen network: pure torch, usable without any mm* library."""

from protuning_mm.blocks.prompt_block import PromptBlock

__all__ = ['PromptBlock']
