"""Label every pixel: images with masks, windows, mIoU."""
