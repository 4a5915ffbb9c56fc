//! `ioasis nvme` on embedded machines.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::common::*;

#[test]
fn identify_describes_the_controller() {
    let machine = Machine::with("size = \"64MiB\"");
    let text = succeed(&mut machine.nvme("identify", &[])).text().to_owned();
    for words in
        ["ioasis NVMe controller", "ioasis-0000:01:00.0", "1.4.0", "131072 blocks of 512 bytes, 64.00 MiB"]
    {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
    let json = succeed(&mut machine.nvme("identify", &["--json"])).json();
    assert_eq!(json["address"], ADDRESS);
    assert_eq!(json["mode"], "iommufd-noiommu");
    assert_eq!(json["namespaces"][0]["blocks"], 131_072);
    assert_eq!(json["namespaces"][0]["block_size"], 512);
}

#[test]
fn a_whole_image_is_read() {
    let image = pattern(5 << 20);
    let machine = Machine::with_image(&image);
    succeed(&mut machine.nvme("read", &["--lba", "0", "--all", "-o", "copy.img"]));
    assert!(read(&machine.path("copy.img")) == image);
    assert_eq!(machine.other_files(), ["copy.img"]);
    let piped = succeed(&mut machine.nvme("read", &["--all", "-o", "-"]));
    assert!(piped.stdout == image);
    let part = succeed(&mut machine.nvme("read", &["--lba", "100", "--blocks", "3000", "-o", "-"]));
    assert!(part.stdout == image[100 * 512..3100 * 512]);
    let rest = succeed(&mut machine.nvme("read", &["--lba", "10000", "--all", "-o", "-"]));
    assert!(rest.stdout == image[10000 * 512..]);
}

#[test]
fn an_image_is_written() {
    let machine = Machine::with_image(&vec![0xee; 40 << 20]);
    let bytes = pattern(33 << 20);
    std::fs::write(machine.path("new"), &bytes).unwrap();
    succeed(&mut machine.nvme("write", &["--lba", "8", "-i", "new"]));
    let image = read(&machine.path("disk.img"));
    assert!(image[4096..4096 + bytes.len()] == bytes);
    assert!(image[..4096].iter().chain(&image[4096 + bytes.len()..]).all(|&byte| byte == 0xee));

    let outcome = run_with_input(&mut machine.nvme("write", &["--lba", "1", "-i", "-"]), &bytes);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(read(&machine.path("disk.img"))[512..512 + bytes.len()] == bytes);
}

#[test]
fn an_inline_device_does_the_same() {
    let image = pattern(3 << 20);
    let machine = Machine::with_image(&image);
    let text = String::from_utf8(read(&machine.path("machine.toml"))).unwrap();
    std::fs::write(machine.path("machine.toml"), format!("{text}thread = false\n")).unwrap();
    assert!(succeed(&mut machine.nvme("read", &["--all", "-o", "-"])).stdout == image);
}

#[test]
fn a_file_that_is_replaced_is_replaced_whole() {
    let machine = Machine::with_image(&pattern(1 << 20));
    std::fs::write(machine.path("old"), "something longer than what comes").unwrap();
    std::os::unix::fs::symlink("old", machine.path("link")).unwrap();
    succeed(&mut machine.nvme("read", &["--blocks", "1", "-o", "link"]));
    assert!(machine.path("link").is_symlink());
    assert_eq!(read(&machine.path("old")), pattern(512));
}

#[test]
fn a_bench_gives_its_numbers() {
    let machine = Machine::with("size = \"16MiB\"");
    let bench = |rw: &str, bs: &str| {
        let more = ["--rw", rw, "--bs", bs, "--qd", "4", "--seconds", "1", "--json"];
        succeed(&mut machine.nvme("bench", &more)).json()
    };
    let reads = bench("randread", "4k");
    assert_eq!((&reads["rw"], &reads["bs"], &reads["qd"]), (&"randread".into(), &4096.into(), &4.into()));
    for number in
        ["seconds", "iops", "bytes_per_second", "mean_latency_us", "memcpy_per_second", "ratio_to_memcpy"]
    {
        assert!(reads[number].as_f64().unwrap() > 0.0, "{number}: {reads}");
    }
    let transfers = reads["transfers"].as_f64().unwrap();
    let rate = transfers / reads["seconds"].as_f64().unwrap();
    assert!((rate / reads["iops"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{reads}");
    for (rw, bs) in [("read", "512"), ("write", "64k"), ("randwrite", "1M")] {
        let json = bench(rw, bs);
        assert_eq!(json["rw"], rw);
        assert_eq!(json["memcpy_per_second"].is_null(), rw != "read");
    }
}

#[test]
fn a_bench_tells_people_too() {
    let machine = Machine::with("size = \"1MiB\"");
    let text = succeed(&mut machine.nvme("bench", &["--seconds", "1"])).text().to_owned();
    for words in ["transfers", "rate", "mean latency", "memcpy alone", "ratio"] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
}

#[test]
fn a_bench_says_whether_its_threads_have_cpus_of_their_own() {
    let machine = Machine::with("size = \"1MiB\"");
    let allowed = sched_getaffinity(None).unwrap();
    let json = succeed(&mut machine.nvme("bench", &["--seconds", "1", "--json"])).json();
    assert_eq!(json["pinned"], allowed.count() > 1);
    // On its last CPU alone, which is inherited.
    let text = std::thread::spawn(move || {
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).rfind(|&cpu| allowed.is_set(cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        succeed(&mut machine.nvme("bench", &["--seconds", "1"])).text().to_owned()
    });
    let text = text.join().unwrap();
    assert!(text.contains("not pinned: the device and the driver could not get two CPUs"), "{text}");
}

/// Behind an IOMMU the same commands need no permission, and tell the mode.
#[test]
fn behind_an_iommu_too() {
    let image = pattern(3 << 20);
    let machine = Machine::with_image(&image);
    let text = String::from_utf8(read(&machine.path("machine.toml"))).unwrap();
    std::fs::write(machine.path("machine.toml"), format!("iommu = \"translating\"\n{text}")).unwrap();
    let json = succeed(&mut machine.nvme("identify", &["--json"])).json();
    assert_eq!(json["mode"], "iommufd");
    assert!(succeed(&mut machine.nvme("read", &["--all", "-o", "-"])).stdout == image);
}
