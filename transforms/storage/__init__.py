"""Files on disks and in object stores, and leases on them."""
