# What the studies of detection and segmentation on EfficientNet-Lite0 share.
tuning = 'model.backbone.tuning'
tunings = dict(
    pro={f'{tuning}.relative': True},  # as in lite.py
    linear={tuning: dict(_delete_=True, type='linear')},
    full={tuning: dict(_delete_=True, type='full')},
    partial={tuning: dict(_delete_=True, type='partial', k=2)},
    bias={tuning: dict(_delete_=True, type='bias')},
    norm={tuning: dict(_delete_=True, type='norm')},
    conv_adapter={tuning: dict(_delete_=True, type='conv_adapter')},
    lora={tuning: dict(_delete_=True, type='lora')},
)
axes = dict(tuning=tunings)
seeds = (0, 1, 2)
keep_deltas = True
