# Start from mmdet's Cascade Mask R-CNN trained on COCO; one GPU, two images per step
#
# The checkpoint's backbone is loaded strictly and stays frozen. Before training, prompts add zero, so the model
# computes what the trained detector computes. Tensors of the heads whose shape differs, for example because of
# num_classes, are listed in the log and initialised anew. For your own data set, inherit this file and set num_classes
# of every bbox_head and mask_head, metainfo and the paths: docs/data.md.
_base_ = './cascade_mask_rcnn_r50_protune.py'

load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/cascade_rcnn/'
    'cascade_mask_rcnn_r50_fpn_1x_coco/cascade_mask_rcnn_r50_fpn_1x_coco_20200203-9d4dcb24.pth'
)
# load_from contains the frozen tensors, so no other weights are downloaded
model = dict(backbone=dict(init_cfg=None))
train_dataloader = dict(batch_size=2)
# the learning rate was set for 8 GPUs x 2 images; mmengine scales it to the batch size of the run
auto_scale_lr = dict(enable=True, base_batch_size=16)
