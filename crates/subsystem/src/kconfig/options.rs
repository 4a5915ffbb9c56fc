//! The options of Linux 7.3 that decide what VFIO and IOMMUFD offer for PCI devices
//! (`drivers/vfio/Kconfig`, `drivers/vfio/pci/Kconfig`, `drivers/iommu/iommufd/Kconfig`).

use core::fmt;

use super::expression::Expression::{All, Any, Is, IsJust, Not, Same, Value};
use super::expression::{Expression, Tristate};
use Symbol::{
    DebugFs, DebugKernel, DmaSharedBuffer, FaultInjection, GenericAtomic64, IommuPtAmdv1, Iommufd,
    IommufdNoiommu, IommufdTest, IommufdVfioContainer, Pci, PciP2pdma, Pm, RuntimeTestingMenu, SpaprTceIommu,
    Vfio, VfioContainer, VfioDebugfs, VfioDeviceCdev, VfioGroup, VfioNoiommu, VfioPci, VfioPciDmabuf,
    VfioPciVga, VgaArb, X86,
};

/// A build option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// 64-bit atomic operations are emulated with locks, as on small architectures.
    GenericAtomic64,
    /// The IOMMU of POWER machines.
    SpaprTceIommu,
    /// The PCI bus.
    Pci,
    /// Devices that are suspended while the system runs.
    Pm,
    /// The architecture of PCs.
    X86,
    /// The arbiter of the legacy addresses of VGA.
    VgaArb,
    /// `/sys/kernel/debug`
    DebugFs,
    /// PCI devices that access each other's memory.
    PciP2pdma,
    /// Help for who develops the kernel.
    DebugKernel,
    /// Allocations that fail when they are told to.
    FaultInjection,
    /// Tests that run in the kernel.
    RuntimeTestingMenu,
    /// `/dev/iommu`
    Iommufd,
    /// VFIO.
    Vfio,
    /// Groups and their nodes, `/dev/vfio/[noiommu-]G`.
    VfioGroup,
    /// The native container, `/dev/vfio/vfio`.
    VfioContainer,
    /// Nodes of devices, `/dev/vfio/devices/[noiommu-]vfioN`.
    VfioDeviceCdev,
    /// `/dev/vfio/vfio` as a file of IOMMUFD.
    IommufdVfioContainer,
    /// Devices without an IOMMU, if the module parameter allows them.
    VfioNoiommu,
    /// Nodes of devices without an IOMMU, and `IOMMU_IOAS_NOIOMMU_GET_PA`.
    IommufdNoiommu,
    /// Page tables in the format of AMD.
    IommuPtAmdv1,
    /// `IOMMU_TEST_CMD`, for the kernel's self-tests of IOMMUFD.
    IommufdTest,
    /// dma-bufs.
    DmaSharedBuffer,
    /// `/sys/kernel/debug/vfio`
    VfioDebugfs,
    /// The driver vfio-pci.
    VfioPci,
    /// The VGA region of display adapters.
    VfioPciVga,
    /// Export of BARs as dma-bufs.
    VfioPciDmabuf,
}

/// Who decides the value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The architecture, or a part of the kernel that is none of our business.
    Given,
    /// Whoever configures the kernel: it has a prompt.
    Prompt,
    /// Other options only.
    Derived,
}

/// An option as a Kconfig file defines it.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) tristate: bool,
    pub(super) origin: Origin,
    /// All have to hold for the option to be offered.
    pub(super) depends: &'static [Expression],
    /// Which options set it whatever it depends on, and on what condition.
    pub(super) selected: &'static [(Symbol, Expression)],
    pub(super) default: Expression,
}

const NO: Expression = Value(Tristate::N);
const YES: Expression = Value(Tristate::Y);

impl Definition {
    const fn given(name: &'static str, machine: Expression) -> Self {
        let origin = Origin::Given;
        Definition { name, tristate: false, origin, depends: &[], selected: &[], default: machine }
    }

    const fn prompt(name: &'static str, default: Expression, depends: &'static [Expression]) -> Self {
        Definition { name, tristate: false, origin: Origin::Prompt, depends, selected: &[], default }
    }

    const fn derived(name: &'static str, default: Expression, depends: &'static [Expression]) -> Self {
        Definition { name, tristate: false, origin: Origin::Derived, depends, selected: &[], default }
    }

    const fn tristate(self) -> Self {
        Definition { tristate: true, ..self }
    }

    /// What becomes of a value: an option that is no tristate is `y` where a tristate would be `m`.
    pub(super) fn promoted(&self, value: Tristate) -> Tristate {
        if value == Tristate::M && !self.tristate { Tristate::Y } else { value }
    }

    const fn selected(self, selected: &'static [(Symbol, Expression)]) -> Self {
        Definition { selected, ..self }
    }
}

/// How many options there are.
pub(super) const COUNT: usize = Symbol::ALL.len();

impl Symbol {
    /// Every option; each speaks of earlier ones only.
    pub const ALL: [Symbol; 26] = [
        GenericAtomic64,
        SpaprTceIommu,
        Pci,
        Pm,
        X86,
        VgaArb,
        DebugFs,
        PciP2pdma,
        DebugKernel,
        FaultInjection,
        RuntimeTestingMenu,
        Iommufd,
        Vfio,
        VfioGroup,
        VfioContainer,
        VfioDeviceCdev,
        IommufdVfioContainer,
        VfioNoiommu,
        IommufdNoiommu,
        IommuPtAmdv1,
        IommufdTest,
        DmaSharedBuffer,
        VfioDebugfs,
        VfioPci,
        VfioPciVga,
        VfioPciDmabuf,
    ];

    pub(super) const fn definition(self) -> Definition {
        match self {
            GenericAtomic64 => Definition::given("GENERIC_ATOMIC64", NO),
            SpaprTceIommu => Definition::given("SPAPR_TCE_IOMMU", NO),
            Pci => Definition::given("PCI", YES),
            Pm => Definition::given("PM", NO),
            X86 => Definition::given("X86", YES),
            VgaArb => Definition::given("VGA_ARB", YES),
            DebugFs => Definition::given("DEBUG_FS", YES),
            PciP2pdma => Definition::given("PCI_P2PDMA", NO),
            DebugKernel => Definition::given("DEBUG_KERNEL", NO),
            FaultInjection => Definition::given("FAULT_INJECTION", NO),
            RuntimeTestingMenu => Definition::given("RUNTIME_TESTING_MENU", NO),
            Iommufd => Definition::prompt("IOMMUFD", NO, &[]).tristate(),
            Vfio => Definition::prompt("VFIO", NO, &[Any(&[Is(Iommufd), Not(Iommufd)])]).tristate(),
            VfioGroup => Definition::prompt("VFIO_GROUP", YES, &[Is(Vfio)])
                .selected(&[(Vfio, Any(&[Is(SpaprTceIommu), IsJust(Iommufd, Tristate::N)]))]),
            VfioContainer => Definition::prompt("VFIO_CONTAINER", YES, &[Is(Vfio), Is(VfioGroup)])
                .selected(&[(Vfio, IsJust(Iommufd, Tristate::N))]),
            VfioDeviceCdev => Definition::prompt(
                "VFIO_DEVICE_CDEV",
                Not(VfioGroup),
                &[Is(Vfio), All(&[Is(Iommufd), Not(SpaprTceIommu)])],
            )
            .selected(&[(Vfio, Not(VfioGroup))]),
            IommufdVfioContainer => Definition::prompt(
                "IOMMUFD_VFIO_CONTAINER",
                All(&[Is(VfioGroup), Not(VfioContainer)]),
                &[Is(Iommufd), All(&[Is(VfioGroup), Not(VfioContainer)])],
            ),
            VfioNoiommu => Definition::prompt(
                "VFIO_NOIOMMU",
                NO,
                &[
                    Is(Vfio),
                    Any(&[Is(VfioGroup), All(&[Is(VfioDeviceCdev), Not(GenericAtomic64)])]),
                    Any(&[Not(VfioGroup), Is(VfioContainer), Is(IommufdVfioContainer)]),
                ],
            ),
            IommufdNoiommu => {
                Definition::derived("IOMMUFD_NOIOMMU", NO, &[Is(Iommufd), Not(GenericAtomic64)])
                    .selected(&[(VfioNoiommu, All(&[Is(VfioDeviceCdev), Not(GenericAtomic64)]))])
            }
            IommuPtAmdv1 => {
                Definition::given("IOMMU_PT_AMDV1", NO).tristate().selected(&[(IommufdNoiommu, YES)])
            }
            IommufdTest => Definition::prompt(
                "IOMMUFD_TEST",
                NO,
                &[
                    Is(Iommufd),
                    Is(DebugKernel),
                    Is(FaultInjection),
                    Is(RuntimeTestingMenu),
                    Any(&[IsJust(IommuPtAmdv1, Tristate::Y), Same(Iommufd, IommuPtAmdv1)]),
                ],
            ),
            DmaSharedBuffer => Definition::given("DMA_SHARED_BUFFER", NO).selected(&[(IommufdTest, YES)]),
            VfioDebugfs => Definition::prompt("VFIO_DEBUGFS", NO, &[Is(Vfio), Is(DebugFs)]),
            VfioPci => Definition::prompt("VFIO_PCI", NO, &[Is(Vfio), Is(Pci)]).tristate(),
            VfioPciVga => Definition::prompt("VFIO_PCI_VGA", NO, &[Is(VfioPci), All(&[Is(X86), Is(VgaArb)])]),
            VfioPciDmabuf => Definition::derived(
                "VFIO_PCI_DMABUF",
                All(&[Is(VfioPci), Is(PciP2pdma), Is(DmaSharedBuffer)]),
                &[Is(Vfio), Is(Pci)],
            ),
        }
    }

    /// Its name in Kconfig files, without `CONFIG_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Who decides its value.
    #[must_use]
    pub fn origin(self) -> Origin {
        self.definition().origin
    }

    /// The option of this name, with or without `CONFIG_`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Symbol> {
        let name = name.strip_prefix("CONFIG_").unwrap_or(name);
        Symbol::ALL.into_iter().find(|symbol| symbol.name() == name)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
