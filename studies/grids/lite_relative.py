# The prompt times the root mean square of its feature map, and without this factor; on images that are
# not the test images.
_base_ = './lite_blocks.py'

title = 'EfficientNet-Lite0: relative prompts'
axes = dict(
    target=_base_.axes.target,
    block=dict(_delete_=True, relative={}, fixed={'model.backbone.tuning.relative': False}),
)
learning_rate = dict(values=(1e-3, 3e-3, 1e-2), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(highlight='relative')
