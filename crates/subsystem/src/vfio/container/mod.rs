//! The native container: groups that share one address space, and what backs it.
//!
//! Source: Linux 7.3, `drivers/vfio/container.c` as observed, and `Documentation/driver-api/vfio.rst`.

mod noiommu;
mod type1;

use uapi::vfio::{VFIO_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_SET_IOMMU};

use self::type1::Type1;

use crate::ctx::CallCtx;
use crate::host::{DmaOwner, Function, Host, RwLock as _};
use crate::mem::List;
use crate::parameters::ModuleParameters;
use crate::rules::{Refusal, group as rules, vfio as vfio_rules};
use crate::vfio::device::{Identity, IommuKind};
use crate::vfio::emulated::Request;

/// One open of `/dev/vfio/vfio`, where VFIO itself provides it.
pub(crate) struct Container<H: Host> {
    state: H::RwLock<State<H>>,
}

struct State<H: Host> {
    /// The groups that have joined.
    groups: List<Member>,
    /// Whether they are without an IOMMU: all of them are, or none. Those of emulated devices count as ones behind one.
    noiommu: bool,
    backend: Option<Backend<H>>,
}

/// A group that has joined.
#[derive(Clone, Copy)]
pub(crate) struct Member {
    /// The minor number of its node.
    pub(crate) minor: u32,
    /// The number of its iommu_group.
    pub(crate) number: u32,
    /// What stands between its devices and memory.
    pub(crate) iommu: IommuKind,
}

/// What backs a container once `VFIO_SET_IOMMU` has chosen it.
enum Backend<H: Host> {
    /// Nothing, for devices without an IOMMU.
    Noiommu,
    /// The IOMMUs of its groups.
    Type1(Type1<H>),
}

/// A container ioctl.
pub(crate) struct Call<'a, H: Host> {
    pub(crate) host: &'a H,
    pub(crate) ctx: &'a CallCtx<'a, H>,
    pub(crate) modules: ModuleParameters,
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
            _ => self.state.read(|state| match &state.backend {
                None => Err(rules::CONTAINER_UNSET),
                Some(Backend::Noiommu) => Err(rules::CONTAINER_NOIOMMU),
                Some(Backend::Type1(type1)) => type1.ioctl(call),
            }),
        }
    }

    /// A group joins, unless it does not go with those that have.
    pub(crate) fn attach(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        modules: ModuleParameters,
        member: Member,
    ) -> Result<(), Refusal> {
        let noiommu = member.iommu == IommuKind::None;
        if noiommu && !ctx.caps.sys_rawio {
            return Err(rules::SET_CONTAINER_CAPABILITY);
        }
        self.state.write(|state| {
            if !state.groups.is_empty() && state.noiommu != noiommu {
                return Err(rules::SET_CONTAINER_MIXED);
            }
            state.groups.reserve(host).map_err(|_| vfio_rules::NO_MEMORY)?;
            member.claim(host)?;
            if let Some(Backend::Type1(type1)) = &state.backend {
                type1.attach(host, modules, member).inspect_err(|_| member.release(host))?;
            }
            state.groups.push_reserved(member);
            state.noiommu = noiommu;
            Ok(())
        })
    }

    /// A group leaves; with the last one goes what backs the container.
    pub(crate) fn detach(&self, host: &H, minor: u32) {
        self.state.write(|state| {
            let Some(at) = state.groups.iter().position(|member| member.minor == minor) else { return };
            if let Some(Backend::Type1(type1)) = &state.backend {
                type1.detach(host, minor);
            }
            if let Some(member) = state.groups.remove(at) {
                member.release(host);
            }
            if state.groups.is_empty() {
                state.backend = None;
            }
        });
    }

    /// A device of a group that has joined is open.
    pub(crate) fn open_device(&self, host: &H, device: &Identity) -> Result<(), Refusal> {
        self.state.read(|state| match &state.backend {
            Some(Backend::Type1(type1)) if device.iommu == IommuKind::Emulated => {
                type1.open_device(host, device.function)
            }
            _ => Ok(()),
        })
    }

    /// It is closed: its driver has nothing pinned any more.
    pub(crate) fn close_device(&self, host: &H, device: &Identity) {
        self.state.read(|state| {
            if let Some(Backend::Type1(type1)) = &state.backend {
                type1.close_device(host, device.function);
            }
        });
    }

    /// Does what the driver of an emulated device asks for, which is open.
    pub(crate) fn serve(
        &self,
        host: &H,
        function: Function,
        iova: u64,
        request: Request<'_>,
    ) -> Result<(), Refusal> {
        self.state.read(|state| match &state.backend {
            Some(Backend::Type1(type1)) => type1.serve(host, function, iova, request),
            Some(Backend::Noiommu) | None => Err(vfio_rules::EMULATED_CLOSED),
        })
    }

    /// How much is mapped.
    pub(crate) fn mappings(&self) -> usize {
        self.state.read(|state| match &state.backend {
            Some(Backend::Type1(type1)) => type1.mappings(),
            Some(Backend::Noiommu) | None => 0,
        })
    }

    /// Checks that a group which has joined may give out a device.
    pub(crate) fn check_use(&self, ctx: &CallCtx<'_, H>) -> Result<(), Refusal> {
        self.state.read(|state| match &state.backend {
            None => Err(rules::DEVICE_FD_NO_BACKEND),
            Some(Backend::Noiommu) if !ctx.caps.sys_rawio => Err(rules::DEVICE_FD_CAPABILITY),
            Some(Backend::Noiommu | Backend::Type1(_)) => Ok(()),
        })
    }
}

impl Member {
    /// Takes the DMA of its iommu_group, if an IOMMU keeps it apart.
    fn claim<H: Host>(&self, host: &H) -> Result<(), Refusal> {
        let owner = DmaOwner::Group(self.minor);
        match self.iommu == IommuKind::Hardware && !host.dma_claim(self.number, owner) {
            true => Err(rules::SET_CONTAINER_OWNED),
            false => Ok(()),
        }
    }

    fn release<H: Host>(&self, host: &H) {
        if self.iommu == IommuKind::Hardware {
            host.dma_release(self.number);
        }
    }
}

impl<H: Host> State<H> {
    /// Whether an extension is there: in what backs the container, or, as long as that is open, in anything that could.
    fn check_extension(&self, call: &Call<'_, H>) -> bool {
        let noiommu = || noiommu::check_extension(call);
        match &self.backend {
            Some(Backend::Noiommu) => noiommu(),
            Some(Backend::Type1(type1)) => type1.check_extension(call.argument),
            None if self.groups.is_empty() => type1::has_extension(call.argument) || noiommu(),
            None if self.noiommu => noiommu(),
            None => type1::has_extension(call.argument),
        }
    }

    fn set_iommu(&mut self, call: &Call<'_, H>) -> Result<(), Refusal> {
        if self.groups.is_empty() {
            return Err(rules::SET_IOMMU_NO_GROUP);
        }
        if self.backend.is_some() {
            return Err(rules::SET_IOMMU_SET);
        }
        self.backend = Some(if self.noiommu {
            noiommu::open(call)?;
            Backend::Noiommu
        } else {
            let type1 = Type1::new(call.argument, call.modules).ok_or(rules::SET_IOMMU_UNKNOWN)?;
            self.attach_all(call, &type1)?;
            Backend::Type1(type1)
        });
        Ok(())
    }

    /// Has all groups that have joined come under type1. A refusal leaves none there.
    fn attach_all(&self, call: &Call<'_, H>, type1: &Type1<H>) -> Result<(), Refusal> {
        for (done, member) in self.groups.iter().enumerate() {
            if let Err(refusal) = type1.attach(call.host, call.modules, *member) {
                self.groups.iter().take(done).for_each(|member| type1.detach(call.host, member.minor));
                return Err(refusal);
            }
        }
        Ok(())
    }
}
