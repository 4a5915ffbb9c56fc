//! Accesses of tests. Each has a file; what it pins are its items.

use uapi::Errno;
use uapi::iommufd_test::{
    IOMMU_TEST_OP_ACCESS_PAGES, IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, IOMMU_TEST_OP_ACCESS_RW,
    IOMMU_TEST_OP_CREATE_ACCESS, IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, IOMMU_TEST_OP_DMABUF_GET,
    IOMMU_TEST_OP_DMABUF_REVOKE, IommuTestAccessPages, IommuTestAccessReplaceIoas, IommuTestAccessRw,
    IommuTestCmd, IommuTestCreateAccess, IommuTestDestroyAccessPages, MOCK_ACCESS_RW_SLOW_PATH,
    MOCK_ACCESS_RW_WRITE, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES, MOCK_FLAGS_ACCESS_SYZ,
    MOCK_FLAGS_ACCESS_WRITE,
};

use super::check::with_memory;
use crate::iommufd::PAGE;
use crate::iommufd::access::{Access, Owner, Pinned, last_of};
use crate::iommufd::areas::Areas;
use crate::iommufd::call::{Argument, Call};
use crate::iommufd::context::Context;
use crate::iommufd::link::Linker;
use crate::iommufd::objects::{Object, Objects};
use crate::mem::{List, OutOfMemory};
use crate::rules::{iommufd as rule, selftest as test_rule};
use crate::{CallCtx, FileId, Host, Polling, Refusal, RwLock, Transfer, UserMemoryExt};

/// The most that is pinned or copied at a time.
const MOST: u64 = 16 << 20;

/// What an operation does that has to do with the file of an access, or of a dma-buf.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFile {
    /// It opens one.
    Creates,
    /// It works on the access of this descriptor.
    Uses(i32),
    /// It makes a dma-buf.
    Exports,
    /// It takes the memory of a dma-buf away, or gives it back.
    Revokes,
}

/// Whether an operation has to do with such a file.
pub(crate) fn on_file<H: Host>(caller: &CallCtx<'_, H>, argument: u64) -> Option<OnFile> {
    // What cannot be read is refused later.
    let head: [u32; 3] = caller.memory.get(argument).ok()?;
    match head {
        [_, IOMMU_TEST_OP_CREATE_ACCESS, _] => Some(OnFile::Creates),
        [_, IOMMU_TEST_OP_DMABUF_GET, _] => Some(OnFile::Exports),
        [_, IOMMU_TEST_OP_DMABUF_REVOKE, _] => Some(OnFile::Revokes),
        [
            _,
            IOMMU_TEST_OP_DESTROY_ACCESS_PAGES
            | IOMMU_TEST_OP_ACCESS_PAGES
            | IOMMU_TEST_OP_ACCESS_RW
            | IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
            id,
        ] => Some(OnFile::Uses(id.cast_signed())),
        _ => None,
    }
}

impl<H: Host> Context<H> {
    /// `CREATE_ACCESS`: makes an access that is attached to an IOAS.
    ///
    /// `open` opens a file for the access of this id, and passes it on to its second argument, which gives the caller a
    /// descriptor of it. What is refused leaves no access. No other call on the context is under way meanwhile.
    pub(crate) fn test_access_new(
        &self,
        host: &H,
        caller: &CallCtx<'_, H>,
        argument: u64,
        open: impl FnOnce(u32, &mut dyn FnMut(FileId) -> Result<(), Refusal>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let call = Call { host, caller, exports: &|_| None, argument };
        let mut argument = call.take::<IommuTestCmd>()?;
        let IommuTestCreateAccess { flags, .. } = argument.value.get();
        if flags & !MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES != 0 {
            return Err(test_rule::ACCESS_FLAGS);
        }
        let owner = Owner::Test { pins: flags != 0 };
        let id = self.objects.write(|objects| {
            let id = objects.insert(host, Object::Access(Access::new(owner)))?;
            let attached = self.attach_access(host, objects, id, argument.value.id);
            attached.map(|()| id).inspect_err(|_| {
                objects.remove(id);
            })
        })?;
        open(id, &mut |file| give_descriptor(&call, &mut argument, file))
            .inspect_err(|_| self.test_access_closed(host, id))
    }

    /// The file of an access is closed.
    pub(crate) fn test_access_closed(&self, host: &H, id: u32) {
        self.objects.write(|objects| self.unbind_locked(host, objects, id));
    }

    /// An operation on an access of this context.
    pub(crate) fn test_access(
        &self,
        host: &H,
        caller: &CallCtx<'_, H>,
        access: u32,
        argument: u64,
    ) -> Result<(), Refusal> {
        let call = Call { host, caller, exports: &|_| None, argument };
        let mut argument = call.take::<IommuTestCmd>()?;
        let command = argument.value;
        match command.op {
            IOMMU_TEST_OP_ACCESS_PAGES => self.access_pages(&call, access, &mut argument),
            IOMMU_TEST_OP_DESTROY_ACCESS_PAGES => {
                let IommuTestDestroyAccessPages { access_pages_id } = command.get();
                self.access_give_back(host, access, access_pages_id)
            }
            IOMMU_TEST_OP_ACCESS_RW => self.access_copy(&call, access, command.get()),
            IOMMU_TEST_OP_ACCESS_REPLACE_IOAS => {
                let IommuTestAccessReplaceIoas { ioas_id } = command.get();
                self.objects.write(|objects| self.attach_access(host, objects, access, ioas_id))
            }
            _ => Err(test_rule::OPERATION),
        }
    }

    /// `ACCESS_PAGES`: pins pages, and checks which they are.
    fn access_pages(
        &self,
        call: &Call<'_, H>,
        access: u32,
        argument: &mut Argument<IommuTestCmd>,
    ) -> Result<(), Refusal> {
        let mut operand: IommuTestAccessPages = argument.value.get();
        if operand.length > MOST {
            return Err(test_rule::ACCESS_LENGTH);
        }
        if operand.flags & !(MOCK_FLAGS_ACCESS_WRITE | MOCK_FLAGS_ACCESS_SYZ) != 0 {
            return Err(test_rule::ACCESS_FLAGS);
        }
        self.objects.write(|objects| {
            let pins = |access: &&Access| access.owner == Owner::Test { pins: true };
            let item = objects.access(access).filter(pins).ok_or(test_rule::ACCESS_PINS)?.next_item;
            self.with_test_access(call.host, objects, access, |areas, linker| {
                let iova = resolve(areas, operand.iova, operand.flags);
                let last = last_of(iova, operand.length)?;
                let pinned = Pinned { access, first: iova, last, item };
                areas.pin_pages(linker, pinned, operand.flags & MOCK_FLAGS_ACCESS_WRITE != 0)?;
                operand.out_access_pages_id = item;
                argument.value.put(&operand);
                check_pages(call, areas, linker, pinned, operand.uptr)
                    .and_then(|()| call.reply(argument))
                    .inspect_err(|_| areas.unpin(linker, pinned))
            })?;
            if let Some(access) = objects.access_mut(access) {
                access.next_item = item.wrapping_add(1);
            }
            Ok(())
        })
    }

    /// `DESTROY_ACCESS_PAGES`: gives back what was pinned.
    fn access_give_back(&self, host: &H, access: u32, item: u32) -> Result<(), Refusal> {
        self.objects.read(|objects| {
            self.with_test_access(host, objects, access, |areas, linker| {
                let pinned = areas.accesses.item(access, item).ok_or(test_rule::ACCESS_ITEM)?;
                areas.unpin(linker, pinned);
                Ok(())
            })
        })
    }

    /// `ACCESS_RW`: copies to or from what is mapped.
    fn access_copy(
        &self,
        call: &Call<'_, H>,
        access: u32,
        operand: IommuTestAccessRw,
    ) -> Result<(), Refusal> {
        let IommuTestAccessRw { iova, length, uptr, flags, .. } = operand;
        if length > MOST {
            return Err(test_rule::ACCESS_LENGTH);
        }
        if flags & !(MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH | MOCK_FLAGS_ACCESS_SYZ) != 0 {
            return Err(test_rule::ACCESS_FLAGS);
        }
        let mut buffer = List::new();
        buffer.reserve_many(call.host, length as usize).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        (0..length).for_each(|_| buffer.push_reserved(0_u8));
        let bytes = buffer.iter_mut().into_slice();
        let write = flags & MOCK_ACCESS_RW_WRITE != 0;
        if write {
            call.caller.memory.read(uptr, bytes).map_err(|_| test_rule::MEMORY)?;
        }
        self.objects.read(|objects| {
            self.with_test_access(call.host, objects, access, |areas, linker| {
                let iova = resolve(areas, iova, flags);
                let last = last_of(iova, length)?;
                let bytes = if write { Transfer::Write(bytes) } else { Transfer::Read(bytes) };
                let is_own = |task| task == call.caller.task && flags & MOCK_ACCESS_RW_SLOW_PATH == 0;
                areas.transfer(linker, iova, last, bytes, is_own)
            })
        })?;
        if write {
            return Ok(());
        }
        call.caller.memory.write(uptr, buffer.iter().as_slice()).map_err(|_| test_rule::MEMORY)
    }

    /// Runs `f` on the IOAS that an access is attached to.
    fn with_test_access(
        &self,
        host: &H,
        objects: &Objects<H>,
        access: u32,
        f: impl FnOnce(&mut Areas<H>, &mut Linker<'_, H>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let ioas = objects.access(access).and_then(|access| access.ioas).ok_or(rule::ACCESS_DETACHED)?;
        self.with_areas(host, objects.ioas(ioas)?, f)
    }
}

/// The IOVA that is meant: with the flag `SYZ`, which makes it easy to guess one, the number of an area and an offset there.
fn resolve<H: Host>(areas: &Areas<H>, iova: u64, flags: u32) -> u64 {
    if flags & MOCK_FLAGS_ACCESS_SYZ == 0 {
        return iova;
    }
    let (nth, offset) = (iova & u64::from(u32::MAX), iova >> 32);
    areas.areas.iter().nth(nth as usize).map_or(0, |area| area.first.wrapping_add(offset))
}

/// Checks that the pages which were pinned are those that the caller has at an address; none are checked at 0.
fn check_pages<H: Host>(
    call: &Call<'_, H>,
    areas: &Areas<H>,
    linker: &Linker<'_, H>,
    pinned: Pinned,
    address: u64,
) -> Result<(), Refusal> {
    if address == 0 {
        return Ok(());
    }
    let (first, end) = (pinned.first / PAGE, (pinned.last / PAGE).saturating_add(1));
    let bytes = end.saturating_sub(first).saturating_mul(PAGE);
    let frame = |pin, page| call.host.run(pin, page, 1).address;
    with_memory(call, address.wrapping_sub(pinned.first % PAGE), bytes, |pin, _| {
        let pages = areas.pinned_stretches(linker, pinned).map(|stretch| stretch.mapping());
        let frames =
            pages.flat_map(|it| (0..it.pages).map(move |page| frame(it.pin, it.first.saturating_add(page))));
        let same = frames.zip(0..).all(|(found, page)| found == frame(pin, page));
        if same { Ok(()) } else { Err(test_rule::PAGES) }
    })
}

/// Gives the caller a descriptor of the file of an access. All or nothing.
fn give_descriptor<H: Host>(
    call: &Call<'_, H>,
    argument: &mut Argument<IommuTestCmd>,
    file: FileId,
) -> Result<(), Refusal> {
    let mut replied = Ok(());
    let installed = call.caller.files.install(file, Polling::None, &mut |fd| {
        let mut operand: IommuTestCreateAccess = argument.value.get();
        operand.out_access_fd = fd.cast_unsigned();
        argument.value.put(&operand);
        replied = call.reply(argument);
        replied.map_err(Refusal::errno)
    });
    replied?;
    installed.map_err(|errno| match errno {
        Errno::EMFILE => test_rule::ACCESS_DESCRIPTOR,
        _ => rule::NO_MEMORY,
    })
}
