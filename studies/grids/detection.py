# Detection on the demo's data: HTC, the config's own learning rate. A run takes minutes.
_base_ = './dense_axes.py'

title = 'Detection on the demo data'
config = '../../configs/det/htc_r50_protune_demo.py'
table = dict(rows='tuning', columns=(), metric='coco/segm_mAP', scale=100, digits=1, highlight='pro')
