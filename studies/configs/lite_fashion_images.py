# Fashion-MNIST's images for the studies on EfficientNet-Lite0: 500 per class to train on, 200 per class to test on.
default_scope = 'mmpretrain'
data_root = 'data/fashion_mnist'  # its four IDX files; mmpretrain fetches them with download=True
train_dataloader = dict(
    dataset=dict(
        type='protuning_mm.FewShot',
        shots=500,
        dataset=dict(type='FashionMNIST', data_root=data_root, split='train', download=False, pipeline=[]),
    )
)
test_dataloader = dict(
    dataset=dict(
        type='protuning_mm.FewShot',
        shots=200,
        dataset=dict(type='FashionMNIST', data_root=data_root, split='test', download=False, pipeline=[]),
    )
)
