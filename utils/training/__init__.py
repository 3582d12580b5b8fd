"""Training, for one device, DataParallel and DistributedDataParallel alike."""
