# Start from mmseg's UPerNet trained on ADE20K; one GPU, two images per step
#
# The checkpoint's backbone is loaded strictly and stays frozen. Before training, prompts add zero, so the model
# computes what the trained segmentor computes. Tensors of the heads whose shape differs, for example because of
# num_classes, are listed in the log and initialised anew. For your own data set, inherit this file and set num_classes
# of decode_head and auxiliary_head, metainfo and the paths: docs/data.md.
_base_ = './upernet_r50_protune.py'

load_from = (
    'https://mmassets.onedl.ai/mmsegmentation/v0.5/upernet/upernet_r50_512x512_160k_ade20k/'
    'upernet_r50_512x512_160k_ade20k_20200615_184328-8534de8d.pth'
)
# load_from contains the frozen tensors, so no other weights are downloaded
model = dict(pretrained=None)
# the data set alone decides whether label 0 is ignored: reduce_zero_label is True in ADE20KDataset, False in others
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].reduce_zero_label = test_pipeline[2].reduce_zero_label = None
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# the learning rate was set for 4 GPUs x 4 images; mmengine scales it to the batch size of the run
auto_scale_lr = dict(enable=True, base_batch_size=16)
