//! Features: settings that the host reads and changes (NVMe 1.4, sections 5.14 and 5.21).

use super::VECTORS;
use super::command::{ALL_NAMESPACES, Command};
use super::queue::IO_PAIRS;
use super::status::Status;

const ARBITRATION: u8 = 0x01;
const POWER_MANAGEMENT: u8 = 0x02;
const TEMPERATURE_THRESHOLD: u8 = 0x04;
const ERROR_RECOVERY: u8 = 0x05;
const VOLATILE_WRITE_CACHE: u8 = 0x06;
const NUMBER_OF_QUEUES: u8 = 0x07;
const INTERRUPT_COALESCING: u8 = 0x08;
const INTERRUPT_VECTOR: u8 = 0x09;
const WRITE_ATOMICITY: u8 = 0x0a;
const ASYNC_EVENTS: u8 = 0x0b;

/// The temperature of the controller, in kelvin: it neither warms nor cools.
pub(super) const TEMPERATURE: u16 = 310;

/// Where it would be too warm, unless the host says otherwise.
pub(super) const WARNING_TEMPERATURE: u16 = 343;

/// The bit of the critical warnings that is about temperature.
pub(super) const TEMPERATURE_WARNING: u8 = 1 << 1;

/// What "Get Features" can be asked for, from its SEL field.
const SELECT_CURRENT: u32 = 0;
const SELECT_DEFAULT: u32 = 1;
const SELECT_SAVED: u32 = 2;
const SELECT_CAPABILITIES: u32 = 3;

const CAPABILITY_NAMESPACE_SPECIFIC: u32 = 1 << 1;
const CAPABILITY_CHANGEABLE: u32 = 1 << 2;

/// The current settings. None of them can be saved.
#[derive(Clone, Debug)]
pub(super) struct Features {
    arbitration: u32,
    error_recovery: u32,
    pub(super) write_cache: bool,
    /// I/O submission and completion queues granted.
    pub(super) submission_queues: u16,
    pub(super) completion_queues: u16,
    /// Kept for the host to read back; coalescing is a recommendation, and is not followed.
    coalescing: u32,
    /// One bit per vector: coalescing disabled.
    uncoalesced: u32,
    write_atomicity: u32,
    async_events: u32,
    over_temperature: u16,
    under_temperature: u16,
}

impl Default for Features {
    fn default() -> Self {
        Features {
            arbitration: 0,
            error_recovery: 0,
            write_cache: true,
            submission_queues: IO_PAIRS,
            completion_queues: IO_PAIRS,
            coalescing: 0,
            uncoalesced: 0,
            write_atomicity: 0,
            async_events: 0,
            over_temperature: WARNING_TEMPERATURE,
            under_temperature: 0,
        }
    }
}

impl Features {
    /// "Get Features": dword 0 of the completion.
    pub(super) fn get(&self, command: &Command) -> Result<u32, Status> {
        let feature = command.dword::<10>() as u8;
        let selector = command.dword::<11>();
        if feature == ERROR_RECOVERY && !matches!(command.namespace, 1 | ALL_NAMESPACES) {
            return Err(Status::INVALID_NAMESPACE);
        }
        match command.dword::<10>() >> 8 & 7 {
            SELECT_CURRENT => self.value(feature, selector),
            SELECT_DEFAULT | SELECT_SAVED => Features::default().value(feature, selector),
            SELECT_CAPABILITIES => {
                self.value(feature, selector)?;
                let specific = if feature == ERROR_RECOVERY { CAPABILITY_NAMESPACE_SPECIFIC } else { 0 };
                Ok(CAPABILITY_CHANGEABLE | specific)
            }
            _ => Err(Status::INVALID_FIELD),
        }
    }

    fn value(&self, feature: u8, selector: u32) -> Result<u32, Status> {
        Ok(match feature {
            ARBITRATION => self.arbitration,
            // The one power state that there is.
            POWER_MANAGEMENT => 0,
            TEMPERATURE_THRESHOLD => u32::from(match Threshold::of(selector)? {
                Threshold::Over => self.over_temperature,
                Threshold::Under => self.under_temperature,
            }),
            ERROR_RECOVERY => self.error_recovery,
            VOLATILE_WRITE_CACHE => self.write_cache.into(),
            NUMBER_OF_QUEUES => {
                u32::from(self.submission_queues - 1) | u32::from(self.completion_queues - 1) << 16
            }
            INTERRUPT_COALESCING => self.coalescing,
            INTERRUPT_VECTOR => {
                let vector = vector(selector)?;
                vector | (self.uncoalesced >> vector & 1) << 16
            }
            WRITE_ATOMICITY => self.write_atomicity,
            ASYNC_EVENTS => self.async_events,
            _ => return Err(Status::INVALID_FIELD),
        })
    }

    /// "Set Features": dword 0 of the completion. `has_io_queues`: it is too late to ask for their number.
    pub(super) fn set(&mut self, command: &Command, has_io_queues: bool) -> Result<u32, Status> {
        let feature = command.dword::<10>() as u8;
        let value = command.dword::<11>();
        // Refuses features that there are not before anything else is said about them.
        self.value(feature, value)?;
        if command.dword::<10>() >> 31 != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        match (feature, command.namespace) {
            (ERROR_RECOVERY, 1 | ALL_NAMESPACES) => {}
            (ERROR_RECOVERY, _) => return Err(Status::INVALID_NAMESPACE),
            (_, 0 | ALL_NAMESPACES) => {}
            _ => return Err(Status::FEATURE_NOT_NAMESPACE_SPECIFIC),
        }
        match feature {
            ARBITRATION => self.arbitration = value,
            POWER_MANAGEMENT if value & 0x1f != 0 => return Err(Status::INVALID_FIELD),
            TEMPERATURE_THRESHOLD => match Threshold::of(value)? {
                Threshold::Over => self.over_temperature = value as u16,
                Threshold::Under => self.under_temperature = value as u16,
            },
            ERROR_RECOVERY => self.error_recovery = value & 0x1_ffff,
            VOLATILE_WRITE_CACHE => self.write_cache = value & 1 != 0,
            NUMBER_OF_QUEUES => return self.grant_queues(value, has_io_queues),
            INTERRUPT_COALESCING => self.coalescing = value & 0xffff,
            INTERRUPT_VECTOR => {
                let vector = vector(value)?;
                self.uncoalesced = self.uncoalesced & !(1 << vector) | (value >> 16 & 1) << vector;
            }
            WRITE_ATOMICITY => self.write_atomicity = value & 1,
            ASYNC_EVENTS => self.async_events = value,
            _ => {}
        }
        Ok(0)
    }

    fn grant_queues(&mut self, value: u32, has_io_queues: bool) -> Result<u32, Status> {
        let (submission, completion) = (value as u16, (value >> 16) as u16);
        if has_io_queues {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        if submission == u16::MAX || completion == u16::MAX {
            return Err(Status::INVALID_FIELD);
        }
        self.submission_queues = (submission + 1).min(IO_PAIRS);
        self.completion_queues = (completion + 1).min(IO_PAIRS);
        self.value(NUMBER_OF_QUEUES, 0)
    }

    /// The critical warnings of the SMART log that hold.
    pub(super) fn critical_warnings(&self) -> u8 {
        let comfortable = self.under_temperature < TEMPERATURE && TEMPERATURE < self.over_temperature;
        if comfortable { 0 } else { TEMPERATURE_WARNING }
    }

    /// Those of which the host wants to be told by an asynchronous event.
    pub(super) fn reported_warnings(&self) -> u8 {
        self.critical_warnings() & self.async_events as u8
    }
}

enum Threshold {
    Over,
    Under,
}

impl Threshold {
    /// Of the composite temperature, or of all sensors: there are no others.
    fn of(selector: u32) -> Result<Self, Status> {
        let sensor = selector >> 16 & 0xf;
        match selector >> 20 & 3 {
            0 if matches!(sensor, 0 | 0xf) => Ok(Threshold::Over),
            1 if matches!(sensor, 0 | 0xf) => Ok(Threshold::Under),
            _ => Err(Status::INVALID_FIELD),
        }
    }
}

fn vector(selector: u32) -> Result<u32, Status> {
    let vector = selector & 0xffff;
    if vector < u32::from(VECTORS) { Ok(vector) } else { Err(Status::INVALID_FIELD) }
}
