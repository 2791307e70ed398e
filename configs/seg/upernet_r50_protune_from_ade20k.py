# Start from mmseg's UPerNet trained on ADE20K, on one GPU with two images.
#
# The checkpoint's backbone is taken strictly and stays frozen; prompts start as the identity, so the first forward
# pass is the trained segmentor's own. Tensors of the heads whose shape differs, as where num_classes does, are listed
# in the log and start anew. For your own data set inherit this file and set num_classes of decode_head and
# auxiliary_head, metainfo and the paths: README, "Your own data".
_base_ = './upernet_r50_protune.py'

load_from = (
    'https://mmassets.onedl.ai/mmsegmentation/v0.5/upernet/upernet_r50_512x512_160k_ade20k/'
    'upernet_r50_512x512_160k_ade20k_20200615_184328-8534de8d.pth'
)
# load_from brings the frozen tensors, so nothing else has to be downloaded
model = dict(pretrained=None)
# whether label 0 is ignored is for the data set alone to say: ADE20KDataset's reduce_zero_label is True, others' False
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].reduce_zero_label = test_pipeline[2].reduce_zero_label = None
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# the learning rate is meant for 4 GPUs x 4 images; mmengine scales it to the batch size of the run
auto_scale_lr = dict(enable=True, base_batch_size=16)
