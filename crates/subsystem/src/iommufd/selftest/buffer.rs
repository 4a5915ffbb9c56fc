//! Memory of tests as dma-bufs. No device reaches it.

use uapi::Errno;
use uapi::iommufd_test::{IommuTestCmd, IommuTestDmabufGet, IommuTestDmabufRevoke};

use crate::iommufd::PAGE;
use crate::iommufd::call::{Call, DmaBuf, Exporter};
use crate::iommufd::context::Context;
use crate::rules::selftest as test_rule;
use crate::{CallCtx, FileId, Host, Mutex as _, Refusal};

/// How many pages one has at most.
const MOST: u64 = 512;
/// Where they are on the bus: above all memory.
const PLACE: u64 = 1 << 51;

/// Memory of a test.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    pub(crate) number: u32,
    /// In bytes.
    pub(crate) length: u64,
    pub(crate) revoked: bool,
}

impl Buffer {
    /// As it is mapped.
    pub(crate) fn dma_buf(self) -> DmaBuf {
        let Buffer { number, length, revoked } = self;
        let address = PLACE.saturating_add(u64::from(number).saturating_mul(MOST.saturating_mul(PAGE)));
        DmaBuf { exporter: Exporter::Test(number), address, length, single: true, answers: !revoked }
    }
}

impl<H: Host> Context<H> {
    /// What is mapped here of a dma-buf is not there any more.
    pub(crate) fn revoke_test_buffer(&self, number: u32) {
        self.records.with(|records| records.revoke(number));
    }
}

fn command<H: Host>(host: &H, caller: &CallCtx<'_, H>, argument: u64) -> Result<IommuTestCmd, Refusal> {
    Ok(Call { host, caller, exports: &|_| None, argument }.take::<IommuTestCmd>()?.value)
}

/// `DMABUF_GET`: how many bytes are asked for.
pub(crate) fn wanted<H: Host>(host: &H, caller: &CallCtx<'_, H>, argument: u64) -> Result<u64, Refusal> {
    let IommuTestDmabufGet { length, .. } = command(host, caller, argument)?.get();
    let pages = u64::from(length).div_ceil(PAGE);
    if (1..=MOST).contains(&pages) { Ok(pages.saturating_mul(PAGE)) } else { Err(test_rule::BUFFER_LENGTH) }
}

/// `DMABUF_REVOKE`: whose file is meant, and whether the memory is not there from now on.
pub(crate) fn revoked<H: Host>(
    host: &H,
    caller: &CallCtx<'_, H>,
    argument: u64,
) -> Result<(FileId, bool), Refusal> {
    let IommuTestDmabufRevoke { dmabuf_fd, revoked } = command(host, caller, argument)?.get();
    let file = caller.files.ours(dmabuf_fd).map_err(|_: Errno| test_rule::BUFFER_DESCRIPTOR)?;
    Ok((file.ok_or(test_rule::BUFFER_FILE)?, revoked != 0))
}
