"""Images: the built-in set, CIFAR-10, folders, shards; splits and augmentation."""
