//! The world as the subsystem's PCI bus.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use subsystem::{Function, IrqKind, Level, Place, Region, RegionKind, Sriov, Watch};
use sys::Width;
use uapi::Errno;

use super::World;
use crate::bus::{Event, PciFunction, Role, Rom};
use crate::model::{BarKind, Register};
use crate::spec::PciAddress;
use crate::tree::Site;

impl World {
    pub(super) fn with<R>(&self, function: Function, otherwise: R, f: impl FnOnce(&PciFunction) -> R) -> R {
        self.bus.get(function).map_or(otherwise, |function| f(function))
    }

    /// The functions on the bus of this one, itself among them, if that bus is behind a port.
    fn behind_port(&self, function: Function) -> impl Iterator<Item = &Arc<PciFunction>> {
        let address = self.bus.get(function).map(|function| function.address());
        let address = address.filter(|&address| self.bus.topology().port(address).is_some());
        address.into_iter().flat_map(|address| self.bus.siblings(address))
    }
}

impl subsystem::Bus for World {
    type Event = Event;

    fn signal(&self, event: &Event) {
        event.signal();
    }

    fn name(&self, function: Function, write: &mut dyn FnMut(&str)) {
        if let Some(site) = self.site(function) {
            write(&site.name);
        }
    }

    fn config_read(&self, function: Function, offset: u16, width: u8) -> u32 {
        self.with(function, u32::MAX, |function| function.config_read(offset, width))
    }

    fn config_write(&self, function: Function, offset: u16, width: u8, value: u32) {
        self.with(function, (), |function| function.config_write(offset, width, value));
    }

    fn config_size(&self, function: Function) -> u16 {
        self.with(function, 256, PciFunction::config_size)
    }

    fn region(&self, function: Function, index: u8) -> Option<Region> {
        let function = self.bus.get(function)?;
        if index == Rom::REGION {
            let kind = RegionKind::Memory { wide: false, prefetchable: false };
            return function.rom().map(|rom| Region { kind, size: rom.size, address: rom.address });
        }
        let bar = (*function.identity().bars.get(usize::from(index))?)?;
        let kind = match bar.kind {
            BarKind::Memory32 => RegionKind::Memory { wide: false, prefetchable: false },
            BarKind::Memory64 => RegionKind::Memory { wide: true, prefetchable: false },
            BarKind::Io => RegionKind::Io,
        };
        Some(Region { kind, size: bar.size, address: function.bar_address(usize::from(index)) })
    }

    fn region_read(&self, function: Function, index: u8, offset: u64, width: u8) -> u64 {
        let Some(width) = register_width(width) else { return u64::MAX };
        self.with(function, u64::MAX, |function| function.read(Register { bar: index, offset, width }))
    }

    fn region_write(&self, function: Function, index: u8, offset: u64, width: u8, value: u64) {
        let Some(width) = register_width(width) else { return };
        self.with(function, (), |function| function.write(Register { bar: index, offset, width }, value));
    }

    fn regions_enable(&self, function: Function, enabled: bool) {
        self.with(function, (), |function| function.enable_mappings(enabled));
    }

    fn revocations(&self, function: Function) -> u32 {
        self.with(function, 0, PciFunction::revocations)
    }

    fn can_reset(&self, function: Function) -> bool {
        let own = |function: &PciFunction| {
            function.identity().express.is_some_and(|express| express.function_reset)
        };
        // Alone on its bus, it is reset by what resets the bus.
        self.with(function, false, own) || self.behind_port(function).count() == 1
    }

    fn reset(&self, function: Function) -> Result<(), Errno> {
        if !self.can_reset(function) {
            return Err(Errno::ENOTTY);
        }
        self.with(function, (), PciFunction::reset);
        Ok(())
    }

    fn has_line(&self, function: Function) -> bool {
        self.with(function, false, |function| function.identity().line)
    }

    fn vectors_enable(&self, function: Function, kind: IrqKind, count: u32) -> u32 {
        self.with(function, 0, |function| function.vectors_enable(kind, count))
    }

    fn vector_set(&self, function: Function, kind: IrqKind, vector: u32, event: Option<Event>) {
        self.with(function, (), |function| function.vector_set(kind, vector, event));
    }

    fn vectors_disable(&self, function: Function, kind: IrqKind) {
        self.with(function, (), |function| function.vectors_disable(kind));
    }

    fn line_level(&self, function: Function) -> bool {
        self.with(function, false, |function| function.interrupts().line_level())
    }

    fn watch(&self, function: Function, watch: Watch, event: Option<Event>) {
        self.watches.set(function, watch, event);
    }

    fn place(&self, function: Function) -> Place {
        let place = |address: PciAddress| Place {
            segment: address.domain(),
            bus: address.bus(),
            devfn: address.devfn(),
        };
        let nowhere = Place { segment: 0, bus: 0, devfn: 0 };
        self.with(function, nowhere, |function| place(function.address()))
    }

    fn each_on_bus(&self, function: Function, f: &mut dyn FnMut(Function)) {
        self.behind_port(function).for_each(|function| f(function.number()));
    }

    fn reset_bus(&self, function: Function) -> Result<(), Errno> {
        self.behind_port(function).for_each(|function| function.reset());
        Ok(())
    }

    fn sriov(&self, function: Function) -> Sriov {
        self.with(function, Sriov::None, |function| match function.role() {
            Role::Plain => Sriov::None,
            Role::Physical(_) => Sriov::Physical { enabled: function.enabled_vfs().into() },
            Role::Virtual(physical, _) => Sriov::Virtual(*physical),
        })
    }

    fn log(&self, level: Level, function: Option<Function>, line: fmt::Arguments<'_>) {
        match function.and_then(|function| self.site(function)) {
            Some(Site { driver, name, .. }) => {
                self.log.line(level.into(), format_args!("{driver} {name}: {line}"))
            }
            None => self.log.line(level.into(), line),
        }
    }

    fn taint(&self, flags: u64) {
        self.taint.fetch_or(flags, Ordering::SeqCst);
    }

    fn sysfs_path(&self, function: Function, write: &mut dyn FnMut(&str)) {
        if let Some(site) = self.site(function) {
            write(&site.folder);
        }
    }
}

fn register_width(bytes: u8) -> Option<Width> {
    match bytes {
        1 => Some(Width::U8),
        2 => Some(Width::U16),
        4 => Some(Width::U32),
        8 => Some(Width::U64),
        _ => None,
    }
}
