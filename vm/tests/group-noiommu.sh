#!/bin/sh
# No IOMMU, and the group above all.
. /bin/lib.sh

drives group-noiommu "with MSI-X" "with MSI" --allow-noiommu
finish
