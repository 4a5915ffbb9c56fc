//! The virtual machine: QEMU's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// A PCI device of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// 0000:00:03.0, QEMU's teaching device: DMA both ways, a legacy interrupt and one MSI
    Edu,
    /// 0000:00:04.0, an NVMe controller over the image
    Nvme,
    /// 0000:00:05.0, BARs in memory and I/O space without DMA
    PciTestdev,
    /// 0000:00:06.0, a network card with several BARs, MSI, MSI-X and a ROM
    E1000e,
    /// 0000:00:09.0, a USB controller with 16 MSI vectors and MSI-X
    Xhci,
    /// 0000:01:00.0, an NVMe controller below a root port, over an empty image
    NvmeBehindPort,
    /// 0000:02:00.0 and 0000:02:00.1, a network card of two functions below a slow root port
    E1000ePair,
    /// 0000:21:00.0, a network card below a host bridge that the IOMMU does not see; not there unless it is named
    E1000eBypassing,
    /// 0000:00:0b.0 and 0000:00:0b.1, a teaching device of two functions; not there unless it is named
    EduPair,
    /// 0000:31:00.0, a teaching device below a host bridge that the IOMMU does not see; not there unless it is named
    EduBypassing,
}

impl Device {
    /// The devices that are there if none is named.
    pub(crate) const ALL: [Self; 7] = [
        Self::Edu,
        Self::Nvme,
        Self::PciTestdev,
        Self::E1000e,
        Self::Xhci,
        Self::NvmeBehindPort,
        Self::E1000ePair,
    ];

    /// Whether it is without an IOMMU even where there is one.
    fn bypasses_iommu(self) -> bool {
        matches!(self, Self::E1000eBypassing | Self::EduBypassing)
    }

    /// Where its functions are in the guest.
    pub(crate) fn addresses(self) -> &'static [&'static str] {
        match self {
            Self::Edu => &["0000:00:03.0"],
            Self::Nvme => &["0000:00:04.0"],
            Self::PciTestdev => &["0000:00:05.0"],
            Self::E1000e => &["0000:00:06.0"],
            Self::Xhci => &["0000:00:09.0"],
            Self::NvmeBehindPort => &["0000:01:00.0"],
            Self::E1000ePair => &["0000:02:00.0", "0000:02:00.1"],
            Self::E1000eBypassing => &["0000:21:00.0"],
            Self::EduPair => &["0000:00:0b.0", "0000:00:0b.1"],
            Self::EduBypassing => &["0000:31:00.0"],
        }
    }

    fn push(self, machine: &Machine<'_>, words: &mut Words) {
        match self {
            Self::Edu => words.pair("-device", &edu("addr=3")),
            Self::Nvme => {
                words.option("-drive", "id=image,if=none,format=raw,file=", &machine.image);
                words.pair("-device", "nvme,addr=4,drive=image,serial=ioasis0");
            }
            Self::PciTestdev => words.pair("-device", "pci-testdev,addr=5"),
            Self::E1000e => words.option("-device", "e1000e,addr=6,romfile=", &machine.rom),
            Self::Xhci => words.pair("-device", "nec-usb-xhci,addr=9,msi=on,msix=on"),
            Self::NvmeBehindPort => {
                words.option("-drive", "id=spare,if=none,format=raw,file=", &machine.spare_image);
                words.pair("-device", "nvme,bus=root0,drive=spare,serial=ioasis1");
            }
            Self::E1000ePair => {
                words.pair("-device", "e1000e,bus=root1,addr=0.0,multifunction=on,romfile=");
                words.pair("-device", "e1000e,bus=root1,addr=0.1,romfile=");
            }
            Self::E1000eBypassing => {
                words.pair("-device", "pxb-pcie,id=pxb0,addr=a,bus_nr=32,bypass_iommu=on");
                words.pair("-device", "pcie-root-port,id=root2,bus=pxb0,chassis=3,slot=3");
                words.pair("-device", "e1000e,bus=root2,romfile=");
            }
            Self::EduPair => {
                words.pair("-device", &edu("addr=b.0,multifunction=on"));
                words.pair("-device", &edu("addr=b.1,multifunction=on"));
            }
            Self::EduBypassing => {
                words.pair("-device", "pxb-pcie,id=pxb1,addr=c,bus_nr=48,bypass_iommu=on");
                words.pair("-device", "pcie-root-port,id=root3,bus=pxb1,chassis=4,slot=4,x-speed=5");
                words.pair("-device", &edu("bus=root3"));
            }
        }
    }
}

fn edu(place: &str) -> String {
    format!("edu,{place},dma_mask=0xffffffff")
}

/// A machine that boots one kernel with one initramfs.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) devices: &'a [Device],
    /// Behind `nvme`.
    pub(crate) image: PathBuf,
    /// Behind `nvme-behind-port`.
    pub(crate) spare_image: PathBuf,
    /// Behind the ROM of `e1000e`.
    pub(crate) rom: PathBuf,
    /// The folder that the guest mounts, or that what it prints goes to.
    pub(crate) share: &'a Path,
    /// The disk for the answers of a guest that cannot mount the folder.
    pub(crate) disk: Option<PathBuf>,
    /// Where the kernel's messages go.
    pub(crate) console: &'a Path,
    /// Whether there is an IOMMU; without one the kernel's no-IOMMU mode is switched on.
    pub(crate) iommu: bool,
    /// Whether it remaps interrupts.
    pub(crate) interrupt_remapping: bool,
    pub(crate) accelerator: &'a str,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    /// More of the kernel's command line.
    pub(crate) parameters: &'a [String],
}

impl Machine<'_> {
    /// The arguments of `qemu-system-x86_64`.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.pair("-machine", "q35,kernel-irqchip=split");
        words.pair("-accel", self.accelerator);
        words.pair("-cpu", "max");
        words.pair("-smp", &self.cpus.to_string());
        words.pair("-m", &format!("{}M", self.memory_mib));
        words.pair("-display", "none");
        words.words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
        words.option("-chardev", "file,id=console,path=", self.console);
        words.pair("-serial", "chardev:console");
        if self.iommu {
            let remapping = if self.interrupt_remapping { "on" } else { "off" };
            words.pair("-device", &format!("intel-iommu,intremap={remapping},caching-mode=on"));
        }
        match &self.disk {
            None => {
                words.option("-fsdev", "local,id=host,security_model=none,path=", self.share);
                words.pair("-device", "virtio-9p-pci,addr=1e,fsdev=host,mount_tag=host");
            }
            Some(disk) => {
                for stream in ["stdout", "stderr"] {
                    let value = format!("file,id={stream},path=");
                    words.option("-chardev", &value, &self.share.join(stream));
                    words.pair("-serial", &format!("chardev:{stream}"));
                }
                words.option("-drive", "id=answers,if=none,format=raw,file=", disk);
                words.pair("-device", "virtio-blk-pci,addr=1e,drive=answers");
            }
        }
        // The ports are always there, so that addresses do not depend on which devices are. A faster one does not report its
        // link as up again after a reset.
        words.pair("-device", "pcie-root-port,id=root0,addr=7,chassis=1,slot=1");
        words.pair("-device", "pcie-root-port,id=root1,addr=8,chassis=2,slot=2,x-speed=5");
        for device in self.devices {
            device.push(self, &mut words);
        }
        words.words.extend(["-kernel".into(), self.kernel.into(), "-initrd".into(), self.initramfs.into()]);
        words.pair("-append", &self.command_line());
        words.words
    }

    /// A panic ends the machine at once (`-no-reboot`).
    fn command_line(&self) -> String {
        // Where the host is busy, a check of the timer takes it for a broken one.
        let mut line =
            "console=ttyS0,115200 earlyprintk=ttyS0 panic=-1 random.trust_cpu=on no_timer_check".to_owned();
        if self.iommu {
            line.push_str(" intel_iommu=on");
        }
        if !self.iommu || self.devices.iter().any(|device| device.bypasses_iommu()) {
            line.push_str(" vfio.enable_unsafe_noiommu_mode=1");
        }
        for parameter in self.parameters {
            line.push(' ');
            line.push_str(parameter);
        }
        line
    }
}

#[derive(Default)]
struct Words {
    words: Vec<OsString>,
}

impl Words {
    fn pair(&mut self, name: &str, value: &str) {
        self.words.extend([name.into(), value.into()]);
    }

    /// An option that ends in a path.
    fn option(&mut self, name: &str, value: &str, path: &Path) {
        let mut word = OsString::from(value);
        word.push(escaped(path));
        self.words.extend([name.into(), word]);
    }
}

/// A path inside a list of options: QEMU reads a doubled comma as a comma.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(iommu: bool, devices: &[Device], disk: Option<PathBuf>) -> String {
        let machine = Machine {
            kernel: Path::new("/k"),
            initramfs: Path::new("/i"),
            devices,
            image: PathBuf::from("/disk,1.img"),
            spare_image: PathBuf::from("/spare.img"),
            rom: PathBuf::from("/rom"),
            share: Path::new("/share"),
            disk,
            console: Path::new("/console"),
            iommu,
            interrupt_remapping: true,
            accelerator: "tcg",
            cpus: 2,
            memory_mib: 1024,
            parameters: &["hugepages=8".to_owned()],
        };
        let words = machine.arguments();
        words.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn no_iommu_mode_is_on_exactly_where_a_device_is_without_an_iommu() {
        let without = arguments(false, &Device::ALL, None);
        assert!(without.contains("vfio.enable_unsafe_noiommu_mode=1 hugepages=8"), "{without}");
        assert!(!without.contains("intel"), "{without}");
        let with = arguments(true, &Device::ALL, None);
        assert!(
            with.contains("-device intel-iommu,") && with.contains("intel_iommu=on hugepages=8"),
            "{with}"
        );
        assert!(!with.contains("noiommu"), "{with}");
        let both = arguments(true, &[Device::E1000eBypassing], None);
        assert!(both.contains("intel_iommu=on vfio.enable_unsafe_noiommu_mode=1"), "{both}");
    }

    #[test]
    fn only_the_named_devices_are_there() {
        let line = arguments(false, &[Device::Nvme], None);
        assert!(line.contains("file=/disk,,1.img -device nvme,addr=4,drive=image"), "{line}");
        assert!(!line.contains("edu") && !line.contains("spare"), "{line}");
    }

    #[test]
    fn a_guest_without_9p_has_ports_and_a_disk() {
        let mounts = arguments(false, &[], None);
        assert!(mounts.contains("path=/share -device virtio-9p-pci"), "{mounts}");
        assert!(!mounts.contains("virtio-blk"), "{mounts}");
        let ports = arguments(false, &[], Some(PathBuf::from("/answers")));
        let order = ["-serial chardev:console", "-serial chardev:stdout", "-serial chardev:stderr"];
        assert!(order.map(|word| ports.find(word).unwrap()).is_sorted(), "{ports}");
        assert!(ports.contains("file=/answers -device virtio-blk-pci") && !ports.contains("9p"), "{ports}");
    }
}
