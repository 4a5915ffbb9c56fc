# As loads.c: a library that makes ioctls by itself, called from an interpreter.
import ctypes
import os
import sys

library = ctypes.CDLL(sys.argv[1])
iommufd = os.open("/dev/iommu", os.O_RDWR)
assert library.library_alloc(iommufd) > 0 and library.library_alloc_made(iommufd) > 0
assert library.library_alloc(0) == -25
print("loaded")
