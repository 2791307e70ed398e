"""Conversion of data as annotation tools write them: detection to COCO's layout, label maps to indices, lists."""

from protuning_mm.conversion.convert import FORMATS, convert_data

__all__ = ['FORMATS', 'convert_data']
