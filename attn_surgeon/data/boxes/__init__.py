"""Data for detection: images with boxes, read from COCO, Pascal VOC and YOLO files."""
