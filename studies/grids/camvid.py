# Segmentation of road scenes: FCN and UPerNet on EfficientNet-Lite0, the published split.
_base_ = './lite_dense_axes.py'

title = 'CamVid: FCN and UPerNet on EfficientNet-Lite0'
axes = dict(
    _delete_=True,  # merging would remove the _delete_ inside the tunings
    head=dict(fcn=dict(config='../configs/camvid.py'), upernet=dict(config='../configs/camvid_upernet.py')),
    tuning=_base_.tunings,
)
learning_rate = dict(values=(3e-4, 1e-3, 3e-3), metric='mIoU')
table = dict(rows='tuning', columns=('head',), metric='mIoU', digits=1, highlight='pro')
