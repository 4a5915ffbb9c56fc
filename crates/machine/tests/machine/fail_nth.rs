//! Failures that a program orders itself, as the kernel's fault injection offers it.

use machine::Machine;
use sys::{MemoryOptions, PageSize, Result, Sys};
use uapi::Errno;
use uapi::iommufd::*;

use crate::common::*;

const WAITING: &str = "/sys/kernel/debug/failslab/ignore-gfp-wait";
const NTH: &str = "/proc/self/task/77/fail-nth";

fn machine() -> Machine {
    let text = format!(
        "[kconfig]\nCONFIG_FAULT_INJECTION = \"y\"\n[[device]]\naddress = \"{EDU}\"\nmodel = \"edu\"\nthread = false\n"
    );
    Machine::from_spec(text.parse().expect("a machine file")).expect("a machine")
}

#[test]
fn a_kernel_without_fault_injection_has_no_such_files() {
    let machine = edu_machine();
    assert!(!exists(&machine, NTH) && !exists(&machine, WAITING));
}

#[test]
fn each_allocation_fails_in_turn_once_those_count_that_wait() {
    let machine = machine();
    assert_eq!((read(&machine, WAITING).as_str(), read(&machine, NTH).as_str()), ("Y\n", "0\n"));
    let alloc = || -> Result<u32> {
        let iommufd = open(&machine, "/dev/iommu")?;
        let mut ioas = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut ioas).map(|_| ioas.out_ioas_id)
    };
    use uapi::Command as _;
    write(&machine, NTH, "1").unwrap();
    alloc().expect("allocations that wait are spared");
    assert_eq!(read(&machine, "/proc/self/fail-nth"), "1\n", "a thread shows what the process has");

    write(&machine, WAITING, "N").unwrap();
    let mut failures = 0;
    for nth in 1.. {
        write(&machine, NTH, &nth.to_string()).unwrap();
        let result = alloc();
        match read(&machine, NTH).as_str() {
            "0\n" => assert_eq!(result.expect_err("it failed").errno(), Errno::ENOMEM),
            _ => break,
        }
        failures += 1;
    }
    assert!(failures >= 2, "a file and an IOAS at least");
    write(&machine, NTH, "0").unwrap();
    assert_eq!(write(&machine, NTH, "x").unwrap_err().errno(), Errno::EINVAL);
    alloc().expect("nothing is to fail any more");
}

#[test]
fn pins_are_counted_too() {
    let machine = machine();
    let attached = Attached::new(&machine);
    let options = MemoryOptions { length: 4096, page_size: PageSize::Base, highest: u64::MAX };
    let memory = machine.allocate(&options).expect("memory");
    write(&machine, NTH, "1").unwrap();
    let refused = map(&machine, &attached.iommufd, attached.ioas, &memory).expect_err("its pin fails");
    assert_eq!((refused.errno(), read(&machine, NTH).as_str()), (Errno::ENOMEM, "0\n"));
    map(&machine, &attached.iommufd, attached.ioas, &memory).expect("only the first failed");
}
