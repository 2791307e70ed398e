# Segmentation on the demo's data (tools/make_demo_data.py): UPerNet, half the demo's schedule, its own learning rate.
title = 'Segmentation on the demo data'
config = '../../configs/seg/upernet_r50_protune_demo.py'
options = {'train_cfg.max_iters': 150, 'param_scheduler.1.end': 150}
tuning = 'model.backbone.tuning'
axes = dict(
    tuning=dict(
        pro={},
        linear={tuning: dict(type='linear')},
        full={tuning: dict(type='full')},
        bias={tuning: dict(type='bias')},
        partial={tuning: dict(type='partial', k=2)},
    )
)
seeds = (0, 1)
allow_test_as_validation = True  # nothing is chosen: every tuning has the config's own learning rate
table = dict(rows='tuning', columns=(), metric='mIoU', digits=1, highlight='pro')
