"""Images: the built-in set, CIFAR-10, folders; splits and augmentation."""
