//! Streams against a plain vector of bytes.

use machine::LayoutKind;
use nvme::{Completions, Error, Stream};
use proptest::prelude::*;

use crate::common::*;

#[derive(Clone, Debug)]
enum Action {
    Write { lba: u64, blocks: u64, seed: u64 },
    Read { lba: u64, blocks: u64 },
    Flush,
}

fn action() -> impl Strategy<Value = Action> {
    // Mostly within the namespace of 16384 blocks, at times past its end.
    let extent = || (0..17_000_u64, prop_oneof![0..20_u64, 0..6_000_u64]);
    prop_oneof![
        4 => (extent(), any::<u64>()).prop_map(|((lba, blocks), seed)| Action::Write { lba, blocks, seed }),
        4 => extent().prop_map(|(lba, blocks)| Action::Read { lba, blocks }),
        1 => Just(Action::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_stream_is_an_array_of_bytes(
        actions in prop::collection::vec(action(), 1..12),
        depth in prop_oneof![2..12_u16, Just(64)],
        thread: bool,
        interrupt: bool,
    ) {
        let machine = machine(LayoutKind::Scattered, thread);
        let (controller, namespace) = bring_up(&machine, 1);
        let completions = if interrupt { Completions::Interrupt } else { Completions::Polled };
        let mut queue = controller.queue(depth, completions).unwrap();
        let mut stream = Stream::new(&controller, &mut queue, namespace).unwrap();
        let mut model = vec![0; namespace.blocks as usize * BLOCK];
        for action in actions {
            match action {
                Action::Write { lba, blocks, seed } => {
                    let bytes = pattern(blocks as usize * BLOCK, seed);
                    let mut left = &bytes[..];
                    let result = stream.write(lba, blocks, |piece| {
                        let (now, later) = left.split_at(piece.len());
                        piece.copy_from_slice(now);
                        left = later;
                        Ok::<(), Error>(())
                    });
                    let fits = lba + blocks <= namespace.blocks;
                    prop_assert_eq!(result.is_ok(), fits);
                    prop_assert_eq!(left.is_empty(), fits || blocks == 0);
                    if fits {
                        let at = lba as usize * BLOCK;
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
                Action::Read { lba, blocks } => {
                    let mut bytes = Vec::new();
                    let result = stream.read(lba, blocks, |piece| {
                        bytes.extend_from_slice(piece);
                        Ok::<(), Error>(())
                    });
                    let at = lba as usize * BLOCK;
                    let expected = model.get(at..at + blocks as usize * BLOCK);
                    prop_assert_eq!(result.is_ok(), expected.is_some());
                    prop_assert!(bytes == expected.unwrap_or_default());
                }
                Action::Flush => stream.flush().unwrap(),
            }
        }
        prop_assert!(stored(&machine, 0, model.len()) == model);
        prop_assert_eq!(machine.findings(), []);
    }
}
