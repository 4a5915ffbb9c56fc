#!/bin/sh
# An IOMMU, and the group above all.
. /bin/lib.sh

drives group "with MSI-X" "with MSI"
finish
