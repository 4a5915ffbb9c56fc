//! The native container: groups that share one address space, and what backs it.
//!
//! Source: Linux 7.3, `drivers/vfio/container.c` as observed, and `Documentation/driver-api/vfio.rst`.

mod noiommu;

use uapi::vfio::{
    VFIO_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU as VFIO_TYPE1_V2_IOMMU, VFIO_UNMAP_ALL,
};

use crate::ctx::CallCtx;
use crate::host::{Alloc, Host, RwLock as _};
use crate::mem::List;
use crate::rules::{Refusal, group as rules, vfio as vfio_rules};

/// One open of `/dev/vfio/vfio`, where VFIO itself provides it.
pub(crate) struct Container<H: Host> {
    state: H::RwLock<State>,
}

struct State {
    /// The groups that have joined, by their minor numbers.
    groups: List<u32>,
    /// Whether they are without an IOMMU: all of them are, or none.
    noiommu: bool,
    backend: Option<Backend>,
}

/// What backs a container once `VFIO_SET_IOMMU` has chosen it.
#[derive(Clone, Copy)]
enum Backend {
    /// Nothing, for devices without an IOMMU.
    Noiommu,
}

/// A container ioctl.
pub(crate) struct Call<'a, H: Host> {
    pub(crate) ctx: &'a CallCtx<'a, H>,
    /// Whether devices without an IOMMU may be registered at the moment.
    pub(crate) unsafe_noiommu_mode: bool,
    pub(crate) command: u32,
    /// A number, or where the argument is.
    pub(crate) argument: u64,
}

impl<H: Host> Container<H> {
    /// A container that no group has joined.
    pub(crate) fn new() -> Self {
        Container { state: H::RwLock::new(State { groups: List::new(), noiommu: false, backend: None }) }
    }

    /// An ioctl on the file of a container. Returns what `ioctl(2)` does.
    pub(crate) fn ioctl(&self, call: &Call<'_, H>) -> Result<u32, Refusal> {
        match call.command {
            VFIO_GET_API_VERSION => Ok(VFIO_API_VERSION),
            VFIO_CHECK_EXTENSION => Ok(self.state.read(|state| state.check_extension(call)).into()),
            VFIO_SET_IOMMU => self.state.write(|state| state.set_iommu(call)).map(|()| 0),
            _ => self.state.read(|state| match state.backend {
                None => Err(rules::CONTAINER_UNSET),
                Some(Backend::Noiommu) => Err(rules::CONTAINER_NOIOMMU),
            }),
        }
    }

    /// A group joins, unless it does not go with those that have.
    pub(crate) fn attach(
        &self,
        alloc: &impl Alloc,
        ctx: &CallCtx<'_, H>,
        group: u32,
        noiommu: bool,
    ) -> Result<(), Refusal> {
        if noiommu && !ctx.caps.sys_rawio {
            return Err(rules::SET_CONTAINER_CAPABILITY);
        }
        self.state.write(|state| {
            if !state.groups.is_empty() && state.noiommu != noiommu {
                return Err(rules::SET_CONTAINER_MIXED);
            }
            state.groups.push(alloc, group).map_err(|_| vfio_rules::NO_MEMORY)?;
            state.noiommu = noiommu;
            Ok(())
        })
    }

    /// A group leaves; with the last one goes what backs the container.
    pub(crate) fn detach(&self, group: u32) {
        self.state.write(|state| {
            if let Some(at) = state.groups.iter().position(|other| *other == group) {
                state.groups.remove(at);
            }
            if state.groups.is_empty() {
                state.backend = None;
            }
        });
    }

    /// Checks that a group which has joined may give out a device.
    pub(crate) fn check_use(&self, ctx: &CallCtx<'_, H>) -> Result<(), Refusal> {
        self.state.read(|state| match state.backend {
            None => Err(rules::DEVICE_FD_NO_BACKEND),
            Some(Backend::Noiommu) if !ctx.caps.sys_rawio => Err(rules::DEVICE_FD_CAPABILITY),
            Some(Backend::Noiommu) => Ok(()),
        })
    }
}

impl State {
    /// Whether an extension is there: in what backs the container, or, as long as that is open, in anything that could.
    fn check_extension<H: Host>(&self, call: &Call<'_, H>) -> bool {
        let noiommu = || noiommu::check_extension(call);
        match self.backend {
            Some(Backend::Noiommu) => noiommu(),
            None if self.groups.is_empty() => is_type1_extension(call.argument) || noiommu(),
            None if self.noiommu => noiommu(),
            None => is_type1_extension(call.argument),
        }
    }

    fn set_iommu<H: Host>(&mut self, call: &Call<'_, H>) -> Result<(), Refusal> {
        if self.groups.is_empty() {
            return Err(rules::SET_IOMMU_NO_GROUP);
        }
        if self.backend.is_some() {
            return Err(rules::SET_IOMMU_SET);
        }
        if self.noiommu {
            noiommu::open(call)?;
            self.backend = Some(Backend::Noiommu);
            return Ok(());
        }
        if is_type1_extension(call.argument) {
            Err(rules::TYPE1_NOT_BUILT)
        } else {
            Err(rules::SET_IOMMU_UNKNOWN)
        }
    }
}

/// What type1 has, whatever is mapped.
fn is_type1_extension(number: u64) -> bool {
    matches!(u32::try_from(number), Ok(VFIO_TYPE1_IOMMU | VFIO_TYPE1_V2_IOMMU | VFIO_UNMAP_ALL))
}
