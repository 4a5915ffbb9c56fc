//! One open of `/dev/iommu`: which command is which, and what a context begins and ends with.

use uapi::iommufd as command;
use uapi::iommufd_test::IOMMU_TEST_CMD;

use super::call::{Call, Exports};
use super::objects::Objects;
use super::records::Records;
use super::selftest::Mock;
use crate::rules::iommufd as rule;
use crate::{Account, CallCtx, DomainKind, Host, Kconfig, Mutex, Refusal, RwLock, Symbol};

/// One open of `/dev/iommu`.
///
/// Whoever holds it calls [`Context::close`] once, when the file and every device bound to it are gone.
pub struct Context<H: Host> {
    pub(super) kconfig: Kconfig,
    /// What the devices without an IOMMU may reach: all that a page table made for such a device keeps in place.
    pub(super) physical: H::Domain,
    pub(super) objects: H::RwLock<Objects<H>>,
    /// The memory behind the areas of every IOAS; COPY shares it among them.
    pub(super) records: H::Mutex<Records<H>>,
    /// The unit of the self-tests.
    pub(super) mock: H::Mutex<Mock<H>>,
}

/// What a context holds, for leak checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects of every type.
    pub objects: usize,
    /// Mapped areas.
    pub areas: usize,
    /// Backing records: one for each MAP or MAP_FILE of which something is still mapped.
    pub pages: usize,
}

impl<H: Host> Context<H> {
    /// A context as `/dev/iommu` opens it, without objects.
    pub fn new(host: &H, kconfig: Kconfig) -> Result<Self, Refusal> {
        Self::with_account(host, kconfig, Account::User)
    }

    /// A context as `/dev/vfio/vfio` opens it where IOMMUFD provides that node: memory is charged to the address
    /// space, as containers do.
    pub fn new_container(host: &H, kconfig: Kconfig) -> Result<Self, Refusal> {
        Self::with_account(host, kconfig, Account::Space)
    }

    fn with_account(host: &H, kconfig: Kconfig, account: Account) -> Result<Self, Refusal> {
        const {
            assert!(
                H::PAGE == super::PAGE,
                "page tables here have pages of 4 KiB, and the CPU must have the same"
            )
        }
        let physical = host.domain_new(DomainKind::Physical).ok_or(rule::NO_MEMORY)?;
        Ok(Self {
            kconfig,
            physical,
            objects: H::RwLock::new(Objects::new(account)),
            records: H::Mutex::new(Records::new()),
            mock: H::Mutex::new(Mock::new()),
        })
    }

    /// An ioctl on the context's file. Returns what `ioctl(2)` does.
    ///
    /// `IOMMU_FAULT_QUEUE_ALLOC` and `IOMMU_VEVENTQ_ALLOC`, which open files, are known to [`Subsystem::ioctl`](crate::Subsystem::ioctl) only.
    pub fn ioctl(&self, host: &H, caller: &CallCtx<H>, number: u32, argument: u64) -> Result<u32, Refusal> {
        self.ioctl_with(host, caller, &|_| None, number, argument)
    }

    /// The same, where some files of the caller are dma-bufs.
    pub(crate) fn ioctl_with(
        &self,
        host: &H,
        caller: &CallCtx<H>,
        exports: &Exports<'_>,
        number: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let call = Call { host, caller, exports, argument };
        let is_test = number == IOMMU_TEST_CMD && self.kconfig.has(Symbol::IommufdTest);
        if !is_native(number) && !is_test {
            return self.compat(&call, number);
        }
        // An argument that cannot be read comes before a command that differs in its upper bits.
        call.stated_size()?;
        let result = match number {
            command::IOMMU_DESTROY => self.destroy(&call),
            command::IOMMU_IOAS_ALLOC => self.ioas_alloc(&call),
            command::IOMMU_IOAS_ALLOW_IOVAS => self.ioas_allow_iovas(&call),
            command::IOMMU_IOAS_COPY => self.ioas_copy(&call),
            command::IOMMU_IOAS_IOVA_RANGES => self.ioas_iova_ranges(&call),
            command::IOMMU_IOAS_MAP => self.ioas_map(&call),
            command::IOMMU_IOAS_UNMAP => self.ioas_unmap(&call),
            command::IOMMU_OPTION => self.option(&call),
            command::IOMMU_VFIO_IOAS => self.vfio_ioas(&call),
            command::IOMMU_HWPT_ALLOC => self.hwpt_alloc(&call),
            command::IOMMU_GET_HW_INFO => self.get_hw_info(&call),
            command::IOMMU_HWPT_SET_DIRTY_TRACKING => self.hwpt_set_dirty_tracking(&call),
            command::IOMMU_HWPT_GET_DIRTY_BITMAP => self.hwpt_get_dirty_bitmap(&call),
            command::IOMMU_HWPT_INVALIDATE => self.hwpt_invalidate(&call),
            command::IOMMU_IOAS_MAP_FILE => self.ioas_map_file(&call),
            command::IOMMU_VIOMMU_ALLOC => self.viommu_alloc(&call),
            command::IOMMU_VDEVICE_ALLOC => self.vdevice_alloc(&call),
            command::IOMMU_IOAS_CHANGE_PROCESS => self.change_process(&call),
            command::IOMMU_HW_QUEUE_ALLOC => self.hw_queue_alloc(&call),
            command::IOMMU_IOAS_NOIOMMU_GET_PA => self.noiommu_get_pa(&call),
            IOMMU_TEST_CMD if is_test => self.test(&call),
            _ => Err(rule::UNKNOWN_COMMAND),
        };
        result.map(|()| 0)
    }

    /// The context's last reference is gone: destroys every object, leaves first. To be called once.
    pub fn close(&self, host: &H) {
        self.objects.write(|objects| self.destroy_all(host, objects));
        host.domain_free(self.physical);
    }

    /// What the context holds.
    pub fn usage(&self) -> Usage {
        self.objects.read(|objects| Usage {
            objects: objects.len(),
            areas: objects.all_ioas().map(|ioas| ioas.areas.with(|areas| areas.len())).sum(),
            pages: self.records.with(|records| records.len()),
        })
    }
}

/// Whether the low byte, the number of the command, is one of IOMMUFD's own.
fn is_native(number: u32) -> bool {
    (command::IOMMUFD_CMD_BASE..=command::IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA).contains(&(number & 0xff))
}
