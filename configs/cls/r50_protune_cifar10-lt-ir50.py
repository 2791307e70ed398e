# ResNet-50 frozen and pro-tuned, long-tailed CIFAR-10, imbalance ratio 50
_base_ = './r50_protune_cifar10-lt-ir100.py'

train_dataloader = dict(dataset=dict(imbalance_ratio=50))
