# Segmentation on the demo's data: UPerNet, half the demo's schedule, its own learning rate.
_base_ = './dense_axes.py'

title = 'Segmentation on the demo data'
config = '../../configs/seg/upernet_r50_protune_demo.py'
options = {'train_cfg.max_iters': 150, 'param_scheduler.1.end': 150}
table = dict(rows='tuning', columns=(), metric='mIoU', digits=1, highlight='pro')
