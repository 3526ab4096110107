"""Model repositories and models that are not on this machine's disks."""
