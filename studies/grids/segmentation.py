# Segmentation on the demo's data: UPerNet, the demo's schedule and learning rate.
_base_ = './dense_axes.py'

title = 'Segmentation on the demo data'
config = '../../configs/seg/upernet_r50_protune_demo.py'
table = dict(rows='tuning', columns=(), metric='mIoU', digits=1, highlight='pro')
