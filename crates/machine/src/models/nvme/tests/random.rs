//! Whatever a host does, the controller neither panics nor hangs, and touches no memory but what it was told of.

use proptest::prelude::*;

use super::*;

/// Something that a host may do.
#[derive(Clone, Debug)]
enum Act {
    Write { offset: u64, value: u64, width: Width },
    Read { offset: u64, width: Width },
    Doorbell { word: u64, value: u32 },
    Command { queue: u16, entry: Entry },
    Work,
    Reset,
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::U8), Just(Width::U16), Just(Width::U32), Just(Width::U64)]
}

fn aligned(offset: u64, width: Width) -> u64 {
    offset & !(width as u64 - 1)
}

/// A value that is near what makes sense, or not at all.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..40, any::<u32>(), (0u32..40).prop_map(|high| high << 16 | 7)]
}

/// An address in the rig's memory, mostly.
fn address() -> impl Strategy<Value = u64> {
    let base = Rig::new().address(0);
    let inside = (0..crate::models::rig::MEMORY / 512).prop_map(move |unit| base + unit * 512);
    prop_oneof![4 => inside.clone(), 4 => inside.prop_map(|at| at & !0xfff), 1 => any::<u64>()]
}

fn entry() -> impl Strategy<Value = Entry> {
    let fields = (0u8..16, 0u32..20, prop_oneof![Just(0u32), Just(1), Just(0xffff_ffff)]);
    let rest = (proptest::array::uniform6(value()), address(), address());
    (fields, rest).prop_map(|((opcode, odds, namespace), (dwords, first, second))| {
        let flags = if odds == 0 { 0x40 } else { 0 };
        let entry = Entry::new(opcode).namespace(namespace).prp(first, second);
        let entry = (10..).zip(dwords).fold(entry, |entry, (index, dword)| entry.dword(index, dword));
        entry.dword(0, u32::from(opcode) | flags << 8)
    })
}

fn act() -> impl Strategy<Value = Act> {
    let offset = prop_oneof![8 => 0u64..0x40, 1 => 0u64..0x4000];
    prop_oneof![
        1 => (offset.clone(), any::<u64>(), width()).prop_map(|(offset, value, width)| {
            Act::Write { offset: aligned(offset, width), value, width }
        }),
        2 => (offset, width()).prop_map(|(offset, width)| Act::Read { offset: aligned(offset, width), width }),
        2 => (0u64..40, value()).prop_map(|(word, value)| Act::Doorbell { word, value }),
        20 => (0u16..4, entry()).prop_map(|(queue, entry)| Act::Command { queue, entry }),
        10 => Just(Act::Work),
        1 => Just(Act::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_a_host_does_breaks_it(acts in proptest::collection::vec(act(), 1..200)) {
        let mut host = Host::disabled(256);
        host.rig.enable_messages(subsystem::IrqKind::MsiX, 4);
        host.enable();
        let mut pairs = vec![host.admin];
        pairs.extend((1..4).map(|id| host.create_pair(id, 8, id == 2)));
        pairs[0] = host.admin;
        for act in acts {
            match act {
                Act::Write { offset, value, width } => {
                    host.nvme.write(Register { bar: 0, offset, width }, value, &mut host.rig.reach());
                }
                Act::Read { offset, width } => {
                    host.nvme.read(Register { bar: 0, offset, width }, &mut host.rig.reach());
                }
                Act::Doorbell { word, value } => host.rig.doorbells().store(word * 4, value),
                Act::Command { queue, entry } => {
                    let mut pair = pairs[usize::from(queue)];
                    host.push(&mut pair, entry);
                    host.ring_tail(&pair);
                    pairs[usize::from(queue)] = pair;
                }
                Act::Work => host.run(),
                Act::Reset => {
                    host.nvme.reset(&mut host.rig.reach());
                    host.enable();
                    pairs[0] = host.admin;
                }
            }
        }
        host.run();
        // Every access that was refused was one of a command, or of a queue that a command or a register had placed.
        for (doing, _) in host.rig.take_findings() {
            prop_assert!(doing.is_some());
        }
        // And it can be used again.
        host.nvme.reset(&mut host.rig.reach());
        host.enable();
        prop_assert!(host.admin(Entry::new(0x0a).dword(10, 0x07)).is_ok());
    }

    #[test]
    fn no_data_reaches_memory_outside_the_transfer(
        first in 0u64..64, blocks in 1u32..64, page in 0u64..8, offset in 0u64..1024,
    ) {
        let mut host = Host::enabled(128);
        let mut pair = host.create_pair(1, 8, false);
        host.rig.store(DATA, &[0xee; 32 * 4096]);
        let (start, bytes) = (page * 4096 + offset * 4, blocks as usize * 512);
        let address = |at: u64| host.rig.address(DATA + at);
        let next = (page + 1) * 4096;
        // Neighbouring pages, through whichever form the length asks for.
        let list: Vec<u8> = (0..16).flat_map(|page| address(next + page * 4096).to_le_bytes()).collect();
        host.rig.store(LIST, &list);
        let two_pages = start + bytes as u64 <= next + 4096;
        let second = if two_pages { address(next) } else { host.rig.address(LIST) };
        let prp = [address(start), second];
        host.io(&mut pair, Host::transfer(0x02, first, blocks, prp)).unwrap();
        let memory = host.rig.load(DATA, 32 * 4096);
        let (before, rest) = memory.split_at(start as usize);
        let (inside, after) = rest.split_at(bytes);
        prop_assert!(before.iter().chain(after).all(|&byte| byte == 0xee));
        prop_assert!(inside.iter().all(|&byte| byte == 0));
    }
}
