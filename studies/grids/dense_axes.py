# What the two studies on the demo's data share (tools/make_demo_data.py writes the data).
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
seeds = (0, 1, 2)
allow_test_as_validation = True  # nothing is chosen: every tuning uses the config's learning rate
