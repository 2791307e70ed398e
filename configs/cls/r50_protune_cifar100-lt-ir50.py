# ResNet-50 frozen and pro-tuned, long-tailed CIFAR-100, imbalance ratio 50
_base_ = './r50_protune_cifar100-lt-ir100.py'

train_dataloader = dict(dataset=dict(imbalance_ratio=50))
