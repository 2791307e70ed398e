# Detection on the demo's data (tools/make_demo_data.py): HTC, the config's own learning rate. Minutes a run.
title = 'Detection on the demo data'
config = '../../configs/det/htc_r50_protune_demo.py'
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
table = dict(rows='tuning', columns=(), metric='coco/segm_mAP', scale=100, digits=1, highlight='pro')
