# Trained on ImageNet with a head of 1000 classes, tested on ImageNet-R among its 200 classes. data/imagenet-r is the
# unpacked imagenet-r.tar.
_base_ = './imagenet_a.py'

test_dataloader = dict(dataset=dict(type='protuning_mm.ImageNetR', data_root='data/imagenet-r'))
