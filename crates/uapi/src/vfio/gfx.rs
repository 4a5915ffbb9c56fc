//! Displays of virtual graphics devices.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Start of the region [`VFIO_REGION_SUBTYPE_GFX_EDID`](super::VFIO_REGION_SUBTYPE_GFX_EDID).
    ///
    /// The monitor description (EDID) lies in the same region, at `edid_offset`.
    pub struct VfioRegionGfxEdid: 24 {
        /// Where the description lies, from the start of the region in bytes; read only.
        pub edid_offset: u32,
        /// The most bytes that a description may have; read only.
        pub edid_max_size: u32,
        /// Size of the description in bytes.
        pub edid_size: u32,
        /// The greatest width in pixels; read only.
        pub max_xres: u32,
        /// The greatest height in pixels; read only.
        pub max_yres: u32,
        /// `VFIO_DEVICE_GFX_LINK_STATE_*`.
        pub link_state: u32,
    }

    /// Argument of [`VFIO_DEVICE_QUERY_GFX_PLANE`].
    pub struct VfioDeviceGfxPlaneInfo: 64 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// `VFIO_GFX_PLANE_TYPE_*`.
        pub flags: u32,
        /// Which plane, in DRM terms.
        pub drm_plane_type: u32,
        /// Out: pixel format, in DRM terms.
        pub drm_format: u32,
        /// Out: format modifier, in DRM terms.
        pub drm_format_mod: u64,
        /// Out: width in pixels.
        pub width: u32,
        /// Out: height in pixels.
        pub height: u32,
        /// Out: bytes from line to line.
        pub stride: u32,
        /// Out: size of the plane in bytes, rounded up to pages.
        pub size: u32,
        /// Out: horizontal position of a cursor plane.
        pub x_pos: u32,
        /// Out: vertical position of a cursor plane.
        pub y_pos: u32,
        /// Out: horizontal position of the cursor's hot spot.
        pub x_hot: u32,
        /// Out: vertical position of the cursor's hot spot.
        pub y_hot: u32,
        /// Out: the region with the plane, or, for dma-buf, the buffer's number.
        ///
        /// C names the second meaning `dmabuf_id`.
        pub region_index: u32,
        /// Unused.
        pub reserved: u32,
    }
}

constants! {
    /// Device ioctl with [`VfioDeviceGfxPlaneInfo`]: describes one plane of the display.
    pub const VFIO_DEVICE_QUERY_GFX_PLANE: u32 = io(VFIO_BASE + 14);
    /// Device ioctl with a pointer to a `u32`, the number of the buffer: returns a dma-buf.
    pub const VFIO_DEVICE_GET_GFX_DMABUF: u32 = io(VFIO_BASE + 15);

    /// The monitor is on.
    pub const VFIO_DEVICE_GFX_LINK_STATE_UP: u32 = 1;
    /// The monitor is off.
    pub const VFIO_DEVICE_GFX_LINK_STATE_DOWN: u32 = 2;

    /// Only ask whether the kind of plane is there.
    pub const VFIO_GFX_PLANE_TYPE_PROBE: u32 = 1 << 0;
    /// The plane is a dma-buf.
    pub const VFIO_GFX_PLANE_TYPE_DMABUF: u32 = 1 << 1;
    /// The plane is a region.
    pub const VFIO_GFX_PLANE_TYPE_REGION: u32 = 1 << 2;
}

// Not self-contained: on a container the number is `VFIO_IOMMU_UNMAP_DMA`, and what that takes for a tail
// may hold the address of a bitmap. The minimum is that of the drivers in the kernel, all of them mediated.
command!(VfioDeviceGfxPlaneInfo, VFIO_DEVICE_QUERY_GFX_PLANE, argsz, min 60);
