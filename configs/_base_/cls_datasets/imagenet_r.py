# Trained on ImageNet, a head of 1000 classes; tested on ImageNet-R among its 200. data/imagenet-r is imagenet-r.tar.
_base_ = './imagenet_a.py'

test_dataloader = dict(dataset=dict(type='protuning_mm.ImageNetR', data_root='data/imagenet-r'))
