//! A machine at rest costs nothing. In a process of its own: processor time is counted by process.

use std::fs;
use std::time::Duration;

use machine::{DeviceSpec, Machine, MachineSpec, ModelSpec};

/// What the threads of this process have used, see Documentation/scheduler/sched-stats.rst.
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = threads.map(|thread| {
        let used = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        used.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[test]
fn devices_that_have_nothing_to_do_take_no_processor_time() {
    let devices = (1..=8)
        .map(|bus| DeviceSpec::new(format!("0000:{bus:02x}:00.0").parse().unwrap(), ModelSpec::Edu))
        .collect();
    let _machine = Machine::from_spec(MachineSpec { devices, ..MachineSpec::default() }).unwrap();
    // Until the threads have seen that there is nothing to do.
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(10), "{spent:?} of processor time in a second");
}
