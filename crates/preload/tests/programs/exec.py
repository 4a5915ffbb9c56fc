# A program that has used its machine turns into another one; one that has not does so unnoticed.
import os
import sys

if len(sys.argv) > 1:
    os.close(os.open("/dev/iommu", os.O_RDWR))
    if os.fork() == 0:
        os.execlp("true", "true")
    os.wait()
    os.execlp("echo", "echo", "another")
os.execlp("echo", "echo", "another")
