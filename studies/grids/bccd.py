# Detection of blood cells: Faster R-CNN with FPN on EfficientNet-Lite0, the published split.
_base_ = './lite_dense_axes.py'

title = 'BCCD: Faster R-CNN on EfficientNet-Lite0'
config = '../configs/bccd.py'
learning_rate = dict(values=(1e-4, 3e-4, 1e-3), metric='coco/bbox_mAP')
table = dict(rows='tuning', columns=(), metric='coco/bbox_mAP', scale=100, digits=1, highlight='pro')
