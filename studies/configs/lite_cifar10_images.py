# CIFAR-10's images for the studies on EfficientNet-Lite0: 500 per class to train on, 200 per class to test on.
# As folders of classes (train/<class>/*.jpg, test/<class>/*.jpg).
default_scope = 'mmpretrain'
data_root = 'data/cifar10_images'
load = [dict(type='LoadImageFromFile')]
train_dataloader = dict(
    dataset=dict(
        type='protuning_mm.FewShot',
        shots=500,
        dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=load),
    )
)
test_dataloader = dict(
    dataset=dict(
        type='protuning_mm.FewShot',
        shots=200,
        dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='test', pipeline=load),
    )
)
