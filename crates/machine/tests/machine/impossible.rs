//! Models that say that they are what no function can be.

use machine::model::{Bar, BarKind, DoorbellWindow, Identity, Model, MsixSpec, Reach, Register, Work};
use machine::{CustomDevice, Driver, Machine, MachineSpec};

use crate::common::{EDU, identity};

#[test]
fn an_impossible_function_is_refused() {
    let memory = |size| Some(Bar { size, kind: BarKind::Memory32 });
    let wide = Some(Bar { size: 4096, kind: BarKind::Memory64 });
    let msix = MsixSpec { vectors: 4, table_bar: 0, table_offset: 0, pending_bar: 0, pending_offset: 64 };
    let msix = |change: fn(&mut MsixSpec)| {
        move |identity: &mut Identity| {
            let mut msix = msix;
            change(&mut msix);
            identity.msix = Some(msix);
        }
    };
    type Change = Box<dyn Fn(&mut Identity)>;
    let changes: [(&str, Change); 11] = [
        ("BAR 1: 0x0 bytes: a power of two from 0x10", Box::new(move |it| it.bars[1] = memory(0))),
        ("BAR 1: 0x1800 bytes", Box::new(move |it| it.bars[1] = memory(0x1800))),
        ("BAR 1: 0x100000000 bytes", Box::new(move |it| it.bars[1] = memory(1 << 32))),
        ("BAR 1: a 64-bit BAR", Box::new(move |it| it.bars[1..3].fill(wide))),
        ("BAR 5: a 64-bit BAR", Box::new(move |it| it.bars[5] = wide)),
        ("MSI: 1, 2, 4", Box::new(|it| it.msi = Some(3))),
        ("MSI-X: 1 to 2048", Box::new(msix(|msix| msix.vectors = 0))),
        ("MSI-X: the table has to", Box::new(msix(|msix| msix.table_offset = 8192 - 63))),
        ("MSI-X: the pending bits", Box::new(msix(|msix| msix.pending_bar = 1))),
        ("MSI-X: table and pending bits", Box::new(msix(|msix| msix.pending_offset = 4))),
        ("65 address bits: 12 to 64", Box::new(|it| it.dma_bits = 65)),
    ];
    for (problem, change) in changes {
        let model = Box::new(Impossible::new(&*change, 4096));
        check_refused(model, problem);
    }
    check_refused(Box::new(Impossible::new(&|_| (), 100)), "doorbells: whole pages");
    check_refused(Box::new(Impossible::new(&|it| it.bars[0] = memory(4096), 4096)), "doorbells: whole pages");
}

struct Impossible {
    identity: Identity,
    doorbells: u64,
}

impl Impossible {
    /// A possible one that is changed, with so many bytes of doorbells.
    fn new(change: &dyn Fn(&mut Identity), doorbells: u64) -> Self {
        let mut identity = identity(8192);
        change(&mut identity);
        Impossible { identity, doorbells }
    }
}

impl Model for Impossible {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn doorbells(&self) -> Option<DoorbellWindow> {
        Some(DoorbellWindow { bar: 0, offset: 4096, length: self.doorbells })
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        0
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {}
}

fn check_refused(model: Box<dyn Model>, problem: &str) {
    let device = CustomDevice { address: EDU.parse().unwrap(), model, thread: false, driver: Driver::None };
    let error = Machine::with_devices(MachineSpec::default(), vec![device]).map(drop).unwrap_err();
    let expected = format!("device {EDU}: {problem}");
    assert!(error.to_string().starts_with(&expected), "{error}, not {expected}");
}
