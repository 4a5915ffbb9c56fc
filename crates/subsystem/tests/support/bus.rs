//! The bus of the simulated host: configuration space and BARs as bytes, and a log of what was done.
//!
//! An access that no driver may make (unaligned, out of bounds, a vector of a kind that is not enabled) panics.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use subsystem::{Bus, Function, IrqKind, Level, Node, Nodes, Place, Region, Slept, Sriov, Watch};
use uapi::Errno;

use super::emulated::{self, TestDevice};
use super::function::TestFunction;
use super::host::TestHost;

/// An eventfd: its counter.
pub(crate) type Event = Arc<AtomicU64>;

/// What happens while somebody sleeps.
type Meanwhile = Box<dyn FnOnce() -> Slept + Send>;

/// What is on the bus, and what the subsystem left behind in the rest of the host.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) functions: Vec<TestFunction>,
    pub(crate) emulated: Vec<TestDevice>,
    pub(crate) nodes: Vec<Node>,
    /// The iommu_groups that were made for one function each.
    pub(crate) iommu_groups: Vec<(u32, Function)>,
    pub(crate) log: Vec<String>,
    pub(crate) taint: u64,
    /// What was done to the functions, in order.
    pub(crate) events: Vec<String>,
    pub(crate) woken: Vec<Function>,
    sleeps: VecDeque<Meanwhile>,
    /// What happens during every other sleep.
    always: Option<fn() -> Slept>,
    pinned_at_reset: Arc<Mutex<Vec<u64>>>,
}

impl TestHost {
    /// Adds a function.
    pub(crate) fn add_function(&self, function: TestFunction) -> Function {
        let iommu = function.iommu;
        let function = self.bus(|bus| {
            bus.functions.push(function);
            Function(u32::try_from(bus.functions.len() - 1).unwrap())
        });
        if let Some(info) = iommu {
            self.put_behind(function, info);
        }
        function
    }

    /// Works on the bus.
    pub(crate) fn bus<R>(&self, f: impl FnOnce(&mut Functions) -> R) -> R {
        f(&mut self.functions.lock().unwrap())
    }

    /// Works on a function.
    pub(crate) fn function<R>(&self, function: Function, f: impl FnOnce(&mut TestFunction) -> R) -> R {
        self.bus(|bus| f(&mut bus.functions[function.0 as usize]))
    }

    /// Says what happens during the next sleep that is not spoken for. A sleep without anything panics.
    pub(crate) fn during_sleep(&self, meanwhile: impl FnOnce() -> Slept + Send + 'static) {
        self.bus(|bus| bus.sleeps.push_back(Box::new(meanwhile)));
    }

    /// Says what happens during each sleep that is not spoken for.
    pub(crate) fn during_every_sleep(&self, meanwhile: fn() -> Slept) {
        self.bus(|bus| bus.always = Some(meanwhile));
    }

    /// Forgets what was done to the functions; what it was.
    pub(crate) fn take_events(&self) -> Vec<String> {
        self.bus(|bus| std::mem::take(&mut bus.events))
    }

    /// How many pages were pinned at each reset from now on.
    pub(crate) fn pinned_at_reset(&self) -> Arc<Mutex<Vec<u64>>> {
        self.bus(|bus| {
            bus.pinned_at_reset = Arc::default();
            bus.pinned_at_reset.clone()
        })
    }

    /// The functions on the bus of this one, if it is on one that can be reset.
    fn siblings(&self, function: Function) -> Vec<Function> {
        self.bus(|bus| {
            let own = bus.functions[function.0 as usize].bus;
            let on_it = bus.functions.iter().enumerate().filter(|(_, it)| own.is_some() && it.bus == own);
            on_it.map(|(number, _)| Function(u32::try_from(number).unwrap())).collect()
        })
    }

    /// Notes what was done to a function.
    pub(crate) fn note(&self, event: String) {
        self.bus(|bus| bus.events.push(event));
    }
}

impl Bus for TestHost {
    type Event = Event;

    fn signal(&self, event: &Event) {
        event.fetch_add(1, Ordering::Relaxed);
    }

    fn name(&self, function: Function, write: &mut dyn FnMut(&str)) {
        if let Some(number) = function.0.checked_sub(emulated::FIRST) {
            return write(&format!("emulated-{number}"));
        }
        write("0000:00:");
        write(&format!("{:02x}.0", function.0));
    }

    fn config_read(&self, function: Function, offset: u16, width: u8) -> u32 {
        self.function(function, |function| function.load_config(offset, width))
    }

    fn config_write(&self, function: Function, offset: u16, width: u8, value: u32) {
        self.note(format!("config[{offset:#x}] = {value:#x}"));
        self.function(function, |function| function.store_config(offset, width, value));
    }

    fn config_size(&self, function: Function) -> u16 {
        self.function(function, |function| u16::try_from(function.config.len()).unwrap())
    }

    fn region(&self, function: Function, index: u8) -> Option<Region> {
        self.function(function, |function| function.regions[usize::from(index)])
    }

    fn region_read(&self, function: Function, index: u8, offset: u64, width: u8) -> u64 {
        self.note(format!("read{}[{offset:#x}] x{width}", index));
        self.function(function, |function| function.load(index, offset, width))
    }

    fn region_write(&self, function: Function, index: u8, offset: u64, width: u8, value: u64) {
        self.note(format!("write{}[{offset:#x}] x{width}", index));
        self.function(function, |function| function.store(index, offset, width, value));
    }

    fn regions_enable(&self, function: Function, enabled: bool) {
        self.note(format!("mappings {}", if enabled { "on" } else { "off" }));
        self.function(function, |function| {
            function.mappings = enabled;
            function.revocations += u32::from(!enabled);
        });
    }

    fn revocations(&self, function: Function) -> u32 {
        self.function(function, |function| function.revocations)
    }

    fn can_reset(&self, function: Function) -> bool {
        self.function(function, |function| function.can_reset)
    }

    fn reset(&self, function: Function) -> Result<(), Errno> {
        self.note("reset".into());
        let pinned = self.in_use().pinned_pages;
        self.bus(|bus| bus.pinned_at_reset.lock().unwrap().push(pinned));
        self.function(function, TestFunction::reset)
    }

    fn has_line(&self, function: Function) -> bool {
        self.function(function, |function| function.line.is_some())
    }

    fn vectors_enable(&self, function: Function, kind: IrqKind, count: u32) -> u32 {
        self.function(function, |function| function.enable_vectors(kind, count))
    }

    fn vector_set(&self, function: Function, kind: IrqKind, vector: u32, event: Option<Event>) {
        self.function(function, |function| {
            assert_eq!(function.enabled, Some(kind), "a vector of a kind that is not enabled");
            function.vectors[vector as usize] = event;
        });
    }

    fn vectors_disable(&self, function: Function, kind: IrqKind) {
        self.note(format!("{kind:?} off"));
        self.function(function, |function| {
            assert_eq!(function.enabled.take(), Some(kind), "what is disabled was enabled");
            assert!(function.vectors.iter().all(Option::is_none), "a vector keeps its target");
        });
    }

    fn line_level(&self, function: Function) -> bool {
        self.function(function, |function| function.line == Some(true))
    }

    fn watch(&self, function: Function, watch: Watch, event: Option<Event>) {
        self.function(function, |function| {
            function.watches.retain(|(other, _)| *other != watch);
            function.watches.extend(event.map(|event| (watch, event)));
        });
    }

    fn place(&self, function: Function) -> Place {
        let bus = self.function(function, |function| function.bus);
        Place { segment: 0, bus: bus.unwrap_or(0), devfn: u8::try_from(function.0).unwrap() }
    }

    fn each_on_bus(&self, function: Function, f: &mut dyn FnMut(Function)) {
        for sibling in self.siblings(function) {
            f(sibling);
        }
    }

    fn reset_bus(&self, function: Function) -> Result<(), Errno> {
        self.note("bus reset".into());
        self.siblings(function).into_iter().try_for_each(|it| self.function(it, TestFunction::reset))
    }

    fn sriov(&self, function: Function) -> Sriov {
        self.function(function, |function| function.sriov)
    }

    fn log(&self, level: Level, function: Option<Function>, line: fmt::Arguments<'_>) {
        let function = function.map_or(String::new(), |function| format!(" {}", function.0));
        self.bus(|bus| bus.log.push(format!("{level:?}{function}: {line}")));
    }

    fn taint(&self, flags: u64) {
        self.bus(|bus| bus.taint |= flags);
    }

    fn sysfs_path(&self, function: Function, write: &mut dyn FnMut(&str)) {
        write(&format!("/devices/pci0000:00/0000:00:{:02x}.0", function.0));
    }
}

impl Nodes for TestHost {
    fn node_add(&self, node: Node) -> Result<(), Errno> {
        if !subsystem::Alloc::permit(self) {
            return Err(Errno::ENOMEM);
        }
        self.bus(|bus| {
            assert!(!bus.nodes.contains(&node), "a node is added twice");
            bus.nodes.push(node);
        });
        Ok(())
    }

    fn node_remove(&self, node: Node) {
        self.bus(|bus| {
            let at =
                bus.nodes.iter().position(|other| *other == node).expect("a node that is there is removed");
            bus.nodes.remove(at);
        });
    }

    fn iommu_group_add(&self, function: Function) -> Result<u32, Errno> {
        if !subsystem::Alloc::permit(self) {
            return Err(Errno::ENOMEM);
        }
        self.bus(|bus| {
            let free =
                (0..).find(|number| bus.iommu_groups.iter().all(|(other, _)| other != number)).unwrap();
            bus.iommu_groups.push((free, function));
            Ok(free)
        })
    }

    fn iommu_group_remove(&self, function: Function, group: u32) {
        self.bus(|bus| {
            let at = bus.iommu_groups.iter().position(|other| *other == (group, function));
            bus.iommu_groups.remove(at.expect("a group that is there is removed"));
        });
    }

    fn sleep(&self, _function: Function, _seconds: u32) -> Slept {
        match self.bus(|bus| (bus.sleeps.pop_front(), bus.always)) {
            (Some(meanwhile), _) => meanwhile(),
            (None, meanwhile) => meanwhile.expect("nobody would ever wake the sleeper")(),
        }
    }

    fn wake(&self, function: Function) {
        self.bus(|bus| bus.woken.push(function));
    }
}
