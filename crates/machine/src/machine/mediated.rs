//! What the drivers of mediated devices do in software, with no lock held.

use subsystem::{Refusal, Transfer};

use super::Shared;
use crate::mediated::{Command, MediatedDevice};

impl Shared {
    /// Performs what mediated devices are waiting for.
    pub(super) fn serve_mediated(&self) {
        for device in self.world().mediated().all() {
            while let Some(command) = device.take_command() {
                device.complete(self.perform(device, command).map_err(Refusal::errno));
            }
        }
    }

    fn perform(&self, device: &MediatedDevice, command: Command) -> Result<(), Refusal> {
        let function = device.number();
        match command {
            Command::Copy { from, to, length } => {
                let mut bytes = vec![0; length as usize];
                self.subsystem.transfer(function, from, Transfer::Read(&mut bytes))?;
                self.subsystem.transfer(function, to, Transfer::Write(&bytes))
            }
            Command::Pin { iova, pages, write } => self.subsystem.pin_pages(function, iova, pages, write),
            Command::Unpin { iova, pages } => {
                self.subsystem.unpin_pages(function, iova, pages);
                Ok(())
            }
        }
    }
}
