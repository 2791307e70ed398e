# DeiT-B, AdaptFormer, Stanford Dogs
_base_ = ['./deit-b_protune_stanford-dogs.py', '../_base_/tunings/adaptformer.py']

model = dict(backbone=dict(tuning=_base_.tuning))
