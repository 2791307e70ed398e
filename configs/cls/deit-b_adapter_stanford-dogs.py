# DeiT-B, an adapter in every layer, Stanford Dogs
_base_ = ['./deit-b_protune_stanford-dogs.py', '../_base_/tunings/adapter.py']

model = dict(backbone=dict(tuning=_base_.tuning))
